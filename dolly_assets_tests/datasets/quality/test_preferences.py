"""The checks of preferences find what is planted, and leave sound votes alone."""

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
import pytest

from dolly_assets.conversations import Message
from dolly_assets.conversations.preference import Preference, Side
from dolly_assets.conversations.tables import PREFERENCE_SCHEMA
from dolly_assets.datasets.quality.checks import CheckName
from dolly_assets.datasets.quality.suite import check_dataset

EARLY, LATE = "demo/model_checkpoint/demo/01@1a", "demo/model_checkpoint/demo/03@3f"
BIRDS = ("wren", "heron", "stork", "finch", "plover", "avocet", "raven", "magpie", "kestrel")
BIRDS += ("osprey", "puffin", "gannet", "dunlin", "swallow", "bunting", "siskin")


def vote(asked: str, chosen: str, rejected: str, winner: str = LATE, side: Side = "") -> Preference:
    loser = EARLY if winner == LATE else LATE
    return Preference((Message("user", asked),), chosen, rejected, winner, loser, side)


def sound() -> list[Preference]:
    sides: tuple[Side, Side] = ("left", "right")
    return [
        vote(
            f"Describe the {bird}.",
            f"The {bird} is a bird; number {at} in the book of {bird}s.",
            f"I once saw some {bird} or other near pond {at}.",
            winner=(EARLY, LATE)[at % 4 > 0],
            side=sides[at % 2],
        )
        for at, bird in enumerate(BIRDS)
    ]


def found(votes: Iterable[Preference]) -> dict[CheckName, dict[str, int]]:
    table = pa.Table.from_pylist([each.row() for each in votes], schema=PREFERENCE_SCHEMA)
    return {each.check: each.kinds for each in check_dataset(table) if each.found}


def test_sound_votes_raise_no_alarm() -> None:
    assert found(sound()) == {}


ASKED = "Name a tree that grows by the sea."
DEFECTS: dict[CheckName, tuple[list[Preference], dict[str, int]]] = {
    "empty": ([vote(ASKED, "A tamarisk.", "\u200b")], {"empty rejected": 1}),
    "equal_answers": ([vote(ASKED, "A pine.", " A pine.")], {"equal": 1}),
    "exact_duplicates": ([vote(ASKED, "A pine.", "Sand.")] * 2, {"repeated": 1}),
    "contradictions": (
        [vote(ASKED, "A pine.", "Sand."), vote(ASKED, "Sand.", "A pine.", EARLY)],
        {"contradicts": 1},
    ),
    "personal_data": ([vote(ASKED, "Ask mary.jones@forests.org.", "Sand.")], {"e-mail address": 1}),
    "encoding": ([vote(ASKED, "A pine.", "The cafÃ© is closed.")], {"mojibake": 1}),
    "prompt_markers": ([vote(ASKED, "A pine.\n### Response:", "Sand.")], {"### Response:": 1}),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found_and_nothing_else(name: CheckName) -> None:
    planted, kinds = DEFECTS[name]
    alarms = found([*sound(), *planted])
    assert set(alarms) == {name}
    assert list(alarms[name].values()) == list(kinds.values())


def test_votes_for_one_model_whatever_it_answers_are_one_sided() -> None:
    votes = [replace(each, chosen_model=LATE, rejected_model=EARLY) for each in sound()]
    assert found(votes) == {"one_sided": {"one model": len(BIRDS)}}
    assert found(votes[:5]) == {}  # too few to show anything


def test_votes_for_one_side_of_the_screen_are_one_sided() -> None:
    votes = [replace(each, chosen_side="left") for each in sound()]
    assert found(votes) == {"one_sided": {"one side": len(BIRDS)}}
