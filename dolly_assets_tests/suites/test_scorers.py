"""Scorers and checkers of instructions, on tables of answers."""

from typing import Any

import pytest

from dolly_assets.suites.instructions import CHECKERS, Instructions, not_followed, sentences
from dolly_assets.suites.records import Record
from dolly_assets.suites.scorers import score


@pytest.mark.parametrize(
    ("scorer", "expected", "answer", "scored"),
    [
        ("exact", ["four"], " four\n", 1),
        ("exact", ["four"], "Four", 0),
        ("exact", ["4", "four"], "four", 1),
        ("contains", ["four  legs"], "It has FOUR\nlegs.", 1),
        ("contains", ["four"], "It has 4.", 0),
        ("regex", [r"^\d+ legs?$"], "4 legs", 1),
        ("regex", [r"^\d+ legs?$"], "4 arms", 0),
        ("f1", ["the big dog"], "a big cat", 0.5),
        ("f1", ["big cat", "dog"], "dog", 1),
    ],
)
def test_an_answer_is_compared_with_each_expected_one(
    scorer: Any, expected: list[str], answer: str, scored: float
) -> None:
    record = Record(id="1", line=1, scorer=scorer, prompt="?", expected=tuple(expected))
    assert score(record, answer) == scored


FOLLOWED = [
    ("min_words", 3, "one two three", "one two"),
    ("max_words", 2, "one two", "one two three"),
    ("min_sentences", 2, 'He said "No." Then he left.', "Only one (so far)."),
    ("max_sentences", 1, "Version 3.11 is out", "One. Two."),
    ("paragraphs", 2, "a\nb\n \nc", "a\nb"),
    ("bullets", 2, "Two:\n- a\n  * b", "- a\n-b"),
    ("bullets", 0, "no list - at all", "• one"),
    ("include", ["Red wine", "c++"], "I like red wine and C++.", "I like red wines and C++."),
    ("exclude", ["no"], "Nothing known", "No."),
    ("valid_json", True, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("valid_json", False, "plain text", "[]"),
    ("case", "lower", "all small, 1", "Not all"),
    ("case", "upper", "LOUD 1", "123"),
    ("starts_with", "Dear", "\nDear Anna,", "dear Anna"),
    ("ends_with", "Yours, Leo", "Bye. Yours, Leo ", "Yours, Leo."),
]


@pytest.mark.parametrize(("name", "wanted", "right", "wrong"), FOLLOWED)
def test_an_instruction_is_followed_or_named(
    name: str, wanted: Any, right: str, wrong: str
) -> None:
    instructions = Instructions.model_validate({name: wanted})
    assert not_followed(right, instructions) == []
    assert not_followed(wrong, instructions) == [name]


def test_every_instruction_has_a_checker_and_a_case_above() -> None:
    assert Instructions.model_fields.keys() == CHECKERS.keys() == {case[0] for case in FOLLOWED}


def test_an_answer_that_follows_all_but_one_instruction_scores_nothing() -> None:
    instructions = Instructions(max_words=3, include=("cat",), case="lower")
    record = Record(id="1", line=1, scorer="instructions", prompt="?", instructions=instructions)
    assert [score(record, answer) for answer in ("a cat", "A cat", "")] == [1, 0, 0]


def test_an_empty_answer_has_no_sentence() -> None:
    assert [sentences(text) for text in ("", " \n", "a", "a. b", "a! b? c…")] == [0, 0, 1, 2, 3]
