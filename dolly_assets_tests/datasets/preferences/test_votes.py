"""Votes are whole or absent, whoever is killed or votes at the same time."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from dolly_assets.conversations import Message
from dolly_assets.conversations.preference import Preference
from dolly_assets.core.errors import ConfigurationError, DatasetError
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.preferences.votes import Votes
from dolly_assets.datasets.sources import read_source
from dolly_assets.storage.object_store import ObjectStore

VOTE = Preference(
    prompt=(Message("system", "Be brief."), Message("user", "Name a bird.")),
    chosen="A wren.",
    rejected="A trout.",
    chosen_model="demo/model_checkpoint/demo/03@3f",
    rejected_model="demo/model_checkpoint/demo/01@1a",
    chosen_side="left",
    id="first",
)
VOTES_WITHOUT_END = """
import sys
from dataclasses import replace
from itertools import count
from dolly_assets_tests.datasets.preferences.test_votes import VOTE, votes_in

votes = votes_in(sys.argv[1])
for number in count():
    votes.add(replace(VOTE, id=f"{sys.argv[2]}-{number}", rejected="A trout. " * 20_000))
    print(number, flush=True)
"""


def votes_in(folder: str | Path, name: str = "preferences") -> Votes:
    objects = ObjectStore(str(folder))
    return Votes(objects, Catalogue(objects, ()), name)


def known(folder: Path) -> dict[str, DatasetConfig]:
    return Catalogue(ObjectStore(str(folder)), ()).kept()


def test_the_catalogue_knows_votes_from_the_first_on(tmp_path: Path) -> None:
    votes = votes_in(tmp_path)
    assert not known(tmp_path)
    assert votes.add(VOTE)
    votes.add(replace(VOTE, id="second", chosen_side="right"))
    table = read_source(known(tmp_path)["preferences"].source).table
    assert sorted(table["id"].to_pylist()) == ["first", "second"]
    assert table.to_pylist()[0] == VOTE.row()


def test_a_vote_that_is_sent_again_is_kept_once(tmp_path: Path) -> None:
    votes = votes_in(tmp_path)
    assert [votes.add(VOTE), votes.add(VOTE)] == [True, False]
    assert votes.count() == 1


@pytest.mark.parametrize(
    ("answers", "problem"),
    [(("A wren.", "A wren. "), "both answers are equal"), (("", "A trout."), "answer is empty")],
)
def test_a_vote_from_which_nothing_can_be_learnt_is_refused(
    tmp_path: Path, answers: tuple[str, str], problem: str
) -> None:
    chosen, rejected = answers
    with pytest.raises(DatasetError, match=problem):
        votes_in(tmp_path).add(replace(VOTE, chosen=chosen, rejected=rejected))
    assert not known(tmp_path)


def test_the_name_of_another_dataset_is_refused(tmp_path: Path) -> None:
    catalogue = Catalogue(ObjectStore(str(tmp_path)), ())
    catalogue.add(DatasetConfig(name="support", source="/data/support.jsonl"))
    with pytest.raises(ConfigurationError, match=r"already /data/support.jsonl: .*--preferences"):
        votes_in(tmp_path, "support")


def test_two_first_votes_at_once_are_both_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as browsers:
        each = [votes_in(tmp_path) for _ in range(8)]
        kept = browsers.map(
            lambda at: each[at].add(replace(VOTE, id=f"browser-{at}")), range(len(each))
        )
        assert all(kept)
    assert read_source(known(tmp_path)["preferences"].source).table.num_rows == 8


@pytest.mark.slow
def test_killed_processes_leave_whole_votes(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", VOTES_WITHOUT_END, str(tmp_path), name],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("first", "second")
    ]
    done = []
    for writer in writers:
        assert writer.stdout
        done += [writer.stdout.readline() for _ in range(20)]
    for writer in writers:
        writer.kill()
        writer.communicate()
    table = read_source(known(tmp_path)["preferences"].source).table
    assert table.num_rows >= len(done)
    assert set(table["rejected"].to_pylist()) == {"A trout. " * 20_000}
