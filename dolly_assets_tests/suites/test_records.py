"""The records of suites: what is read, and what is refused by file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.family import Evaluation
from dolly_assets.suites.records import read_suite, warnings_of
from dolly_assets.suites.settings import GENERAL_FILE

ASKED = {"prompt": "How many legs has a cat?", "expected": "four"}


def written(folder: Path, *lines: dict[str, Any] | str) -> Path:
    file = folder / "legs.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("\n".join(texts), encoding="utf-8")
    return file


def test_records_have_ids_lines_and_the_suites_scorer(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Legs?"}]
    file = written(
        tmp_path,
        ASKED,
        "",
        {"id": "b", "messages": messages, "expected": ["4", "four"], "scorer": "contains"},
    )
    first, second = read_suite(file, "exact").records
    assert (first.id, first.line, first.scorer, first.expected) == ("1", 1, "exact", ("four",))
    assert (second.id, second.line, second.scorer) == ("b", 3, "contains")
    assert [turn.role for turn in second.conversation.messages] == ["system", "user"]


WRONG = {
    "is not JSON": "{",
    "expected a JSON object, found an array": "[1]",
    "an object has the key 'id' twice": '{"id": "a", "id": "b"}',
    "half of a surrogate pair": '{"prompt": "\\ud800", "expected": "a"}',
    "promt: Extra inputs are not permitted": {"promt": "x", "expected": "y"},
    "line: extra inputs": {**ASKED, "line": 3},
    "the prompt is empty": {**ASKED, "prompt": " \n"},
    "there is no prompt": {"expected": "y"},
    "either an instruction or messages": {**ASKED, "messages": [{"role": "user"}]},
    "there is no scorer 'bleu'; name one of exact, contains": {**ASKED, "scorer": "bleu"},
    "the scorer exact needs 'expected'": {"prompt": "x"},
    "an expected answer is empty": {**ASKED, "expected": ["four", ""]},
    "not a regular expression: unterminated": {**ASKED, "scorer": "regex", "expected": "[4"},
    "the scorer choice needs 'choices'": {**ASKED, "scorer": "choice"},
    "at least two texts that differ": {**ASKED, "scorer": "choice", "choices": ["four", "four"]},
    "one of the choices, word for word": {**ASKED, "scorer": "choice", "choices": ["4", "2"]},
    "the scorer exact does not read 'choices'": {**ASKED, "choices": ["4", "2"]},
    "instructions: there is no instruction": {
        **ASKED,
        "scorer": "instructions",
        "instructions": {},
    },
    "min_words 9 is more than max_words 3": {
        "prompt": "x",
        "scorer": "instructions",
        "instructions": {"min_words": 9, "max_words": 3},
    },
    "'a' is in include and in exclude": {
        "prompt": "x",
        "scorer": "instructions",
        "instructions": {"include": ["A"], "exclude": ["a"]},
    },
    "the scorer text needs 'text'": {"scorer": "text", "text": ""},
}


@pytest.mark.parametrize(("problem", "line"), WRONG.items(), ids=WRONG)
def test_what_is_wrong_is_named_by_file_and_line(
    tmp_path: Path, problem: str, line: dict[str, Any] | str
) -> None:
    file = written(tmp_path, ASKED, line)
    with pytest.raises(ConfigurationError) as caught:
        read_suite(file, "exact")
    assert str(caught.value).startswith(f"{file}:2: ")
    assert problem in str(caught.value)


def test_an_id_that_occurs_twice_names_both_lines(tmp_path: Path) -> None:
    file = written(tmp_path, {**ASKED, "id": "a"}, ASKED, {**ASKED, "id": "a"})
    with pytest.raises(ConfigurationError, match=r":3: the id 'a' is that of line 1, too"):
        read_suite(file, "exact")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "No such file"), (b"", "has no record"), (b"\xff\xfe{", r"jsonl:1: is not UTF-8")],
)
def test_a_file_without_records_is_refused(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "legs.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem):
        read_suite(file, "exact")


def test_equal_answers_are_worth_a_warning(tmp_path: Path) -> None:
    file = written(tmp_path, ASKED, {**ASKED, "prompt": "And a dog?"})
    equal = read_suite(file, "exact").records
    [warning] = warnings_of(equal)
    assert warning.startswith("all 2 records expect the same answer, 'four'")
    assert not warnings_of(equal[:1])
    other = written(tmp_path, ASKED, {**ASKED, "expected": "two"})
    assert not warnings_of(read_suite(other, "exact").records)


def test_the_bundled_suite_has_texts_and_questions_with_one_right_answer() -> None:
    records = read_suite(GENERAL_FILE, "exact").records
    by_scorer = {name: [r for r in records if r.scorer == name] for name in ("text", "choice")}
    assert len(by_scorer["text"]) >= 30
    assert len(by_scorer["choice"]) >= 60
    assert sum(map(len, by_scorer.values())) == len(records)
    assert not warnings_of(records)
    places = [record.choices.index(record.expected[0]) for record in by_scorer["choice"]]
    assert {places.count(place) > 10 for place in range(4)} == {True}


SUITES = {
    "there is no file": {"legs": {}},
    "cannot be read": {"legs": {"file": "./absent.jsonl"}},
    "legs.jsonl:1: the scorer choice needs": {"legs": {"file": "legs.jsonl", "scorer": "choice"}},
    "is bundled and has no settings but limit": {"general": {"file": "legs.jsonl"}},
}


@pytest.mark.parametrize(("problem", "suites"), SUITES.items(), ids=SUITES)
def test_a_suite_is_checked_when_the_yaml_is_read(
    tmp_path: Path, problem: str, suites: dict[str, Any]
) -> None:
    written(tmp_path, ASKED)
    evaluation = Evaluation.model_validate({"suites": suites})
    with pytest.raises(ConfigurationError, match=problem):
        evaluation.resolved(tmp_path)


def test_what_determines_a_suites_scores_is_its_content_and_not_its_place(tmp_path: Path) -> None:
    def decisive(folder: str, *lines: dict[str, Any], **settings: Any) -> Any:
        (tmp_path / folder).mkdir(exist_ok=True)
        written(tmp_path / folder, *lines)
        suite = {"legs": {"file": "legs.jsonl", **settings}}
        evaluation = Evaluation.model_validate({"suites": suite}).resolved(tmp_path / folder)
        return evaluation.suites["legs"].decisive()

    here = decisive("a", ASKED)
    assert here == decisive("b", ASKED)
    assert here != decisive("a", ASKED, ASKED)
    assert here != decisive("a", ASKED, scorer="f1")


def test_a_suite_whose_name_could_not_be_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match="'a b' cannot name a suite"):
        Evaluation.model_validate({"suites": {"a b": {"file": "x.jsonl"}}})
