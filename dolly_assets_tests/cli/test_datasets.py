"""`dolly datasets …`: what is added, shown and removed, and what that leaves alone."""

import json
import os
from pathlib import Path

import pytest

from dolly_assets.datasets.sources import read_source
from dolly_assets.registry.attributes import RawDatasetAttributes
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets_tests.in_process import dolly, new_variables, refusal

GOOD = '{"instruction": "a", "Response": "b", "system": "s", "history": []}\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home, and a dataset with a test split and two other files in `clone`."""
    folder = tmp_path_factory.mktemp("home")
    clone = folder / "clone"
    clone.mkdir()
    for name, lines in (("train-1.jsonl", 2), ("train-2.jsonl", 3), ("test-1.jsonl", 5)):
        (clone / name).write_text(GOOD * lines)
    (clone / "README.md").write_text("---\nlicense: mit\n---\n")
    (clone / "notes.txt").write_text("x")
    return folder


@pytest.fixture(scope="module")
def variables(folder: Path) -> dict[str, str]:
    return new_variables(folder)


def add(variables: dict[str, str], *arguments: str) -> str:
    result = dolly(variables, "datasets", "add", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_add_prints_what_is_read_and_skipped_and_which_columns_are_kept(
    folder: Path, variables: dict[str, str]
) -> None:
    assert add(variables, "first", str(folder / "clone")).splitlines() == [
        f"added first: 5 examples from {folder}/clone",
        "  read train-1.jsonl: 2 examples",
        "  read train-2.jsonl: 3 examples",
        "  skipped 1 (describes the dataset): README.md",
        "  skipped 1 (not a dataset file): notes.txt",
        "  skipped 1 (split test): test-1.jsonl",
        "  kept 3 columns: instruction, response (from 'Response'), system",
        "  dropped 1 column: 'history'",
    ]


def test_a_name_is_overwritten_only_on_request(folder: Path, variables: dict[str, str]) -> None:
    source = str(folder / "clone" / "train-1.jsonl")
    add(variables, "second", source, "--license", "CC-BY-4.0")

    message = refusal(variables, "datasets", "add", "second", source)
    assert f"dataset 'second' is already {source} (license CC-BY-4.0, answers open)" in message
    assert "choose another name, or replace it with --replace" in message
    assert "second                   CC-BY-4.0" in dolly(variables, "datasets", "list").stdout

    add(variables, "second", str(folder / "clone"), "--answers", "exact", "--replace")
    shown = json.loads(dolly(variables, "datasets", "show", "second", "--json").stdout)
    assert (shown["source"], shown["license"], shown["answers"]) == (
        str(folder / "clone"),
        "unknown",
        "exact",
    )
    assert "is declared in YAML" in refusal(
        variables, "datasets", "add", "demo", source, "--replace"
    )


def test_a_name_is_checked_before_the_source_is_read(variables: dict[str, str]) -> None:
    assert "is declared in YAML" in refusal(variables, "datasets", "add", "demo", "/none.jsonl")


def test_show_states_what_is_declared_and_that_it_was_not_read(
    folder: Path, variables: dict[str, str]
) -> None:
    add(variables, "third", str(folder / "clone"), "--license", "mit")

    lines = dolly(variables, "datasets", "show", "third").stdout.splitlines()

    assert f"source       {folder}/clone" in lines
    assert "license      mit" in lines
    assert "origin       added" in lines
    assert lines[-1].startswith("not read yet: ")
    assert "unknown dataset 'none'" in refusal(variables, "datasets", "show", "none")
    assert "origin       declared" in dolly(variables, "datasets", "show", "demo").stdout


def test_show_states_what_was_read_last(folder: Path, variables: dict[str, str]) -> None:
    add(variables, "shown", str(folder / "clone"))
    reading = ["read train-1.jsonl: 2 examples", "dropped 1 column: 'system'"]
    attributes = RawDatasetAttributes(rows=1234, reading=reading)
    artifact = ArtifactStore(str(folder / "store"), folder / "cache").publish(
        "raw_dataset/shown", folder / "clone", kind="raw_dataset", attributes=attributes.as_json()
    )

    shown = dolly(variables, "datasets", "show", "shown").stdout.splitlines()

    assert shown[-3:] == ["examples     1,234", *(f"  {line}" for line in reading)]
    assert shown[-4].startswith("read         ")
    assert shown[-4].endswith(artifact.digest)
    read = json.loads(dolly(variables, "datasets", "show", "shown", "--json").stdout)["read"]
    assert (read["rows"], read["reading"]) == (1234, reading)
    assert "removed shown" in dolly(variables, "datasets", "remove", "shown").stdout
    assert ArtifactStore(str(folder / "store"), folder / "cache").latest("raw_dataset/shown")


def test_remove_forgets_what_was_added_and_nothing_else(
    folder: Path, variables: dict[str, str]
) -> None:
    add(variables, "fourth", str(folder / "clone"))

    removed = dolly(variables, "datasets", "remove", "fourth").stdout

    assert removed == (
        f"removed fourth, which was {folder}/clone; what was published of it and trained on it "
        "stays in the store\n"
    )
    assert "unknown dataset 'fourth'" in refusal(variables, "datasets", "remove", "fourth")
    assert "remove it there" in refusal(variables, "datasets", "remove", "demo")
    names = [
        item["name"] for item in json.loads(dolly(variables, "datasets", "list", "--json").stdout)
    ]
    assert "demo" in names
    assert "fourth" not in names


def test_a_source_means_the_same_from_every_folder(
    folder: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    write = folder / "several" / "en" / "train.jsonl"
    write.parent.mkdir(parents=True)
    write.write_text(GOOD)
    other = folder / "several" / "fr" / "train.jsonl"
    other.parent.mkdir()
    other.write_text(GOOD * 4)

    assert "several configurations: 'en', 'fr'" in refusal(
        variables, "datasets", "add", "fifth", "several"
    )
    added = add(variables, "fifth", "several#fr")

    os.chdir("/")
    assert f"added fifth: 4 examples from {folder}/several#fr" in added
    shown = json.loads(dolly(variables, "datasets", "show", "fifth", "--json").stdout)
    assert read_source(shown["source"]).files == {"fr/train.jsonl": 4}


def test_check_prints_every_check_and_refuses_what_training_would(
    folder: Path, variables: dict[str, str]
) -> None:
    good, bad = folder / "good.jsonl", folder / "bad.jsonl"
    vote = '{"prompt": "Name a bird.", "chosen": "A wren.", "rejected": "%s"}\n'
    good.write_text(vote % "A wren.")
    bad.write_text(vote % "A wren." + vote % "")
    add(variables, "good", str(good))
    add(variables, "bad", str(bad))

    result = dolly(variables, "datasets", "check", "good")
    assert result.exit_code == 0, result.output
    assert "warns           equal_answers: 1 of 1 preferences prefer an answer to" in result.stdout
    result = dolly(variables, "datasets", "check", "bad")
    assert result.exit_code == 2
    assert "dolly: dataset bad was refused for training: empty: 1 of 2 records" in result.stderr
