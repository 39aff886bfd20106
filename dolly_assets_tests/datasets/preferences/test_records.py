"""Preferences in the forms of TRL are read alike, and what is none is refused by record."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.conversations.tables import PREFERENCE_SCHEMA
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.schema import content_digest
from dolly_assets.datasets.sources import read_source

ASKED = [{"role": "user", "content": "Name a bird."}]
GOOD = [{"role": "assistant", "content": "A wren."}]
BAD = [{"role": "assistant", "content": "A trout."}]
TEXTS = {"prompt": "Name a bird.", "chosen": "A wren.", "rejected": "A trout."}
FORMS: dict[str, dict[str, Any]] = {
    "texts": TEXTS,
    "lists": {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
    "answers with their prompt": {"chosen": ASKED + GOOD, "rejected": ASKED + BAD},
    "a text and whole conversations": {
        "prompt": "Name a bird.",
        "chosen": ASKED + GOOD,
        "rejected": ASKED + BAD,
    },
}


def read(folder: Path, *records: dict[str, Any]) -> pa.Table:
    file = folder / "preferences.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_source(str(file)).table


@pytest.mark.parametrize("record", FORMS.values(), ids=list(FORMS))
def test_every_form_gives_the_same_record(tmp_path: Path, record: dict[str, Any]) -> None:
    table = read(tmp_path, record)
    assert table.schema == PREFERENCE_SCHEMA
    assert content_digest(table) == content_digest(read(tmp_path, TEXTS))


def test_parquet_gives_what_json_gives(tmp_path: Path) -> None:
    file = tmp_path / "preferences.parquet"
    pq.write_table(pa.Table.from_pylist([FORMS["lists"]]), file)
    assert read_source(str(file)).table == read(tmp_path, TEXTS)


def test_an_empty_answer_is_read_for_the_checks_to_find(tmp_path: Path) -> None:
    assert read(tmp_path, {**TEXTS, "rejected": ""})["rejected"].to_pylist() == [""]


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"chosen": "A wren.", "rejected": "A trout."}, "the prompt is missing"),
        ({**TEXTS, "rejected": None}, "'rejected' is missing"),
        ({**TEXTS, "rejected": ASKED}, "'rejected' ends with no text of the assistant"),
        ({"prompt": "Name a tree.", **FORMS["answers with their prompt"]}, "answers another"),
    ],
)
def test_what_is_no_preference_is_refused_by_its_line(
    tmp_path: Path, record: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DatasetError, match=rf"record 2 \(line 2\): .*{problem}"):
        read(tmp_path, TEXTS, record)


def test_preferences_and_examples_are_two_datasets(tmp_path: Path) -> None:
    read(tmp_path, TEXTS)
    (tmp_path / "examples.jsonl").write_text('{"instruction": "a", "response": "b"}\n')
    with pytest.raises(DatasetError, match="add them as two datasets"):
        read_source(str(tmp_path))
