"""The same records give the same files, however they are cut; memory does not grow with them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dolly_assets.datasets.schema import content_digest
from dolly_assets.datasets.sources import read_source
from dolly_assets.storage.tables import open_table, write_parquet
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.tokenize import tokenize
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer, with_style

RECORDS = 3_000
STYLE = PromptStyle(intro="")


def record(number: int) -> str:
    return json.dumps({"instruction": f"Question {number}?", "response": f"Answer {number}."})


def as_one_file(folder: Path) -> Path:
    file = folder / "records.jsonl"
    file.write_text("".join(record(number) + "\n" for number in range(RECORDS)))
    return file


def as_a_thousand(folder: Path) -> Path:
    parts = folder / "parts"
    parts.mkdir()
    for part in range(1_000):
        lines = [record(number) for number in range(3 * part, 3 * part + 3)]
        (parts / f"{part:04}.jsonl").write_text("\n".join(lines))
    return parts


def test_one_file_and_a_thousand_give_the_same_bytes(tmp_path: Path) -> None:
    written: dict[str, tuple[str, ...]] = {}
    tokenizer = with_style(byte_level_tokenizer(), STYLE)
    for cut in (as_one_file, as_a_thousand):
        table = read_source(str(cut(tmp_path))).table
        out = tmp_path / cut.__name__
        out.mkdir()
        write_parquet(table, out / "data.parquet")
        tokenize(
            open_table(out / "data.parquet", "data.parquet"),
            tokenizer,
            STYLE,
            max_length=512,
            packing=True,
            held_out_examples=100,
            seed=7,
        ).write(out)
        files = sorted(out.iterdir())
        written[cut.__name__] = (
            content_digest(table),
            *(file.read_bytes().hex() for file in files),
        )
    assert written["as_one_file"] == written["as_a_thousand"]


READ = """
import sys
import pyarrow as pa
from dolly_assets.datasets.sources import read_source
from dolly_assets.storage.tables import write_parquet
table = read_source(sys.argv[1]).table
print(table.nbytes, pa.default_memory_pool().max_memory())
"""


@pytest.mark.slow
def test_a_file_is_read_in_less_memory_than_it_has(tmp_path: Path) -> None:
    file, text = tmp_path / "long.jsonl", "word " * 2_000
    with file.open("w") as out:
        for number in range(30_000):
            out.write(json.dumps({"instruction": f"{number}", "response": text}) + "\n")
    ended = subprocess.run(
        [sys.executable, "-c", READ, str(file)], capture_output=True, text=True, check=True
    )
    table_bytes, arrow_bytes = map(int, ended.stdout.split())
    assert table_bytes > 300_000_000
    assert arrow_bytes < table_bytes / 2
