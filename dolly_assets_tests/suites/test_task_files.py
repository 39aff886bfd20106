"""Tasks of lm-evaluation-harness in YAML files: what is published of them, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.family import Evaluation
from dolly_assets.suites.settings import Suite
from dolly_assets.suites.task_files import located, task_files

TASK = {
    "task": "legs",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": ["a/legs.jsonl", "https://example.com/b.jsonl"]}},
    "output_type": "multiple_choice",
}


def written(folder: Path, content: str | None = None, **changed: Any) -> Path:
    (folder / "a").mkdir(exist_ok=True)
    (folder / "a" / "legs.jsonl").write_text('{"question": "Legs of a cat?"}\n')
    file = folder / "legs.yaml"
    file.write_text(content or yaml.safe_dump({**TASK, **changed}))
    return file


def resolved(folder: Path, **settings: Any) -> Suite:
    evaluation = Evaluation.model_validate({"suites": {"legs": settings}}).resolved(folder)
    return evaluation.suites["legs"]


def test_a_task_is_published_with_its_data_and_finds_it_where_it_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "yaml").mkdir()
    files = task_files(written(tmp_path / "yaml"))
    assert set(files) == {"task.yaml", "data/0-legs.jsonl"}
    fetched = tmp_path / "fetched"
    for path, file in files.items():
        (fetched / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, fetched / path)
    config = located(fetched)
    own, remote = config["dataset_kwargs"]["data_files"]["test"]
    assert Path(own).read_text() == '{"question": "Legs of a cat?"}\n'
    assert remote == "https://example.com/b.jsonl"
    assert {**config, "dataset_kwargs": TASK["dataset_kwargs"]} == TASK


def test_the_data_determines_the_scores_as_the_yaml_does(tmp_path: Path) -> None:
    written(tmp_path)
    before = resolved(tmp_path, lm_eval="./legs.yaml").decisive()
    assert resolved(tmp_path, lm_eval="./legs.yaml", limit=3).decisive() != before
    (tmp_path / "a" / "legs.jsonl").write_text("{}\n")
    assert resolved(tmp_path, lm_eval="./legs.yaml").decisive() != before


def test_a_task_that_is_bundled_has_no_file_and_no_template_unless_it_is_asked(
    tmp_path: Path,
) -> None:
    suite = resolved(tmp_path, lm_eval="arc_easy", limit=20)
    assert (suite.source, suite.files(), suite.uses_chat_template) == (None, {}, False)
    assert suite.decisive() == ["arc_easy", {"limit": 20}]
    assert resolved(tmp_path, lm_eval="arc_easy", chat_template=True).uses_chat_template


WRONG = {
    "!function run Python": "task: legs\ndataset_path: json\nprocess: !function utils.process\n",
    "with the keys task and dataset_path": "task: legs\n",
    "include is not followed": "task: legs\ndataset_path: json\ninclude: base.yaml\n",
    "legs.jsonl cannot be read": (
        "task: legs\ndataset_path: json\ndataset_kwargs: {data_files: absent/legs.jsonl}\n"
    ),
}


@pytest.mark.parametrize(("problem", "content"), WRONG.items(), ids=WRONG)
def test_a_task_that_is_not_data_alone_is_refused(
    tmp_path: Path, problem: str, content: str
) -> None:
    written(tmp_path, content)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        resolved(tmp_path, lm_eval="legs.yaml")
    assert str(caught.value).startswith(str(tmp_path / "legs.yaml"))


def test_settings_that_a_task_states_itself_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="scorer does not belong to a task of lm-eval"):
        resolved(tmp_path, lm_eval="arc_easy", scorer="f1")


def test_a_suite_that_changed_since_it_was_read_is_not_published(tmp_path: Path) -> None:
    written(tmp_path)
    suite = resolved(tmp_path, lm_eval="./legs.yaml")
    (tmp_path / "a" / "legs.jsonl").write_text("{}\n")
    with pytest.raises(ConfigurationError, match="has changed since the YAML was read"):
        suite.files()
