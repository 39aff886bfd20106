"""Both models answer one prompt, votes become preferences, and a file gives back what it was."""

from pathlib import Path

import pytest

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.quality.suite import check_dataset
from dolly_assets.datasets.sources import read_source
from dolly_assets.playground.conversation import Answer, Conversation, Turn
from dolly_assets.playground.voting import skip, vote
from dolly_assets_tests.datasets.preferences.test_votes import known, votes_in

EARLY, LATE = "demo/model_checkpoint/demo/01@1a", "demo/model_checkpoint/demo/03@3f"


def asked(message: str, *texts: str, is_whole: bool = True, error: str = "") -> Turn:
    answers = tuple(
        Answer(model=address[:4], address=address, text=text, is_whole=is_whole, error=error)
        for address, text in zip((EARLY, LATE), texts, strict=False)
    )
    return Turn(message=message, answers=answers)


def said(conversation: Conversation, turn: Turn) -> list[str]:
    return [message.text for message in conversation.prompt(turn)]


def test_a_conversation_continues_from_the_preferred_answer_else_from_the_left_one(
    tmp_path: Path,
) -> None:
    first, second = asked("Name a bird.", "A trout.", "A wren."), asked("Another?", "Cod.", "Jay.")
    conversation = Conversation(system="Be brief.").with_turn(first)
    conversation = vote(votes_in(tmp_path), conversation, first, 1)
    conversation = skip(conversation.with_turn(second), second)
    assert said(conversation, Turn(message="And a tree?")) == [
        "Be brief.",
        "Name a bird.",
        "A wren.",
        "Another?",
        "Cod.",
        "And a tree?",
    ]


def test_an_answer_that_failed_is_no_part_of_the_prompt() -> None:
    failed = asked("Name a bird.", "A", error="the server is gone", is_whole=False)
    assert said(Conversation().with_turn(failed), Turn(message="Again?")) == ["Again?"]


def test_a_vote_is_a_preference_that_the_catalogue_knows_and_the_checks_read(
    tmp_path: Path,
) -> None:
    first, second = asked("Name a bird.", "A trout.", "A wren."), asked("Another?", "Cod.", "Jay.")
    conversation = vote(votes_in(tmp_path), Conversation().with_turn(first), first, 1)
    conversation = vote(votes_in(tmp_path), conversation.with_turn(second), second, 0)
    table = read_source(known(tmp_path)["preferences"].source).table
    rows = {row["id"]: row for row in table.to_pylist()}
    assert rows[first.id]["chosen"] == "A wren."
    assert (rows[first.id]["chosen_model"], rows[first.id]["rejected_model"]) == (LATE, EARLY)
    assert (rows[first.id]["chosen_side"], rows[second.id]["chosen_side"]) == ("right", "left")
    assert "A wren." in rows[second.id]["prompt"]
    assert not [found.check for found in check_dataset(table) if found.found]


@pytest.mark.parametrize(
    "turn",
    [
        asked("Name a bird.", "A wren."),
        asked("Name a bird.", "A wren.", "A", is_whole=False),
        asked("Name a bird.", "A wren.", "", is_whole=False, error="gone"),
    ],
    ids=["one answer", "stopped", "failed"],
)
def test_a_turn_without_two_whole_answers_takes_no_vote(tmp_path: Path, turn: Turn) -> None:
    with pytest.raises(DatasetError, match="no two whole answers"):
        vote(votes_in(tmp_path), Conversation().with_turn(turn), turn, 0)
    assert not known(tmp_path)


def test_a_downloaded_conversation_is_opened_as_it_was() -> None:
    conversation = Conversation(system="Sé breve.").with_turn(asked("Name a bird.", "A wren."))
    assert Conversation.read(conversation.as_json().encode(), "c.json") == conversation


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": "other"}', b'{"turns": [{}]}'])
def test_a_file_that_is_no_conversation_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(DatasetError, match=r"^c\.json is no conversation: "):
        Conversation.read(content, "c.json")
