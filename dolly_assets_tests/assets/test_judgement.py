"""An epoch's answers before a judge: Dagster, the store and HTTP are real."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from dolly_assets.assets.judgement import PAIRS_PER_COMMIT, build_judgement
from dolly_assets.assets.judgement_checks import CHECK
from dolly_assets.core.errors import ArtifactError, JudgeError
from dolly_assets.core.names import epoch_key
from dolly_assets.dagster_support.partitions import DATASETS, partition_key
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.family import ModelFamily
from dolly_assets.judging.exchange import EXCHANGES_FILE
from dolly_assets.judging.pairs import VERDICTS_FILE
from dolly_assets.registry.attributes import JudgementAttributes
from dolly_assets.registry.currency import is_current
from dolly_assets.registry.kinds import EVALUATION, KINDS, SAMPLE_RESPONSES
from dolly_assets.registry.queries import scored_epochs
from dolly_assets.scoring.examples import SCORES_FILE
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.judging.stand_in import Raw, Seen, StandInJudge, prefers_more, running
from dolly_assets_tests.scoring.tables import scored
from dolly_assets_tests.tiny_training import DATASET, tiny_family

RECORDS = PAIRS_PER_COMMIT + 4
BETTER = [f"a long answer {number}" for number in range(RECORDS)]
WORSE = [f"no {number}" for number in range(RECORDS)]


class Court:
    """A family with a judge, and the answers of its base model and of epoch 1."""

    def __init__(
        self, store: ArtifactStore, publish: Publish, folder: Path, server: StandInJudge
    ) -> None:
        self.store, self._publish, self.folder, self.server = store, publish, folder, server

    def family(self, **changed: Any) -> ModelFamily:
        plain, judge = tiny_family(), self.server.settings(concurrency=2, **changed)
        evaluation = plain.evaluation.model_copy(update={"judge": judge})
        return plain.model_copy(update={"evaluation": evaluation})

    def answered(self, epoch: int, answers: list[str], *, exact: bool = True) -> None:
        """An epoch was trained, evaluated and sampled."""
        family, of = self.family(), (DATASET, epoch_key(epoch))
        attributes = {"epoch": epoch, "training": "t"}
        checkpoint = self._publish(["tiny", "model_checkpoint"], *of, attributes=attributes)
        inputs = {checkpoint.name: checkpoint.digest}
        scores, samples = self.folder / SCORES_FILE, self.folder / "responses.json"
        table = scored([*answers] if exact else [None] * len(answers))
        pq.write_table(table, scores)
        samples.write_text(json.dumps([{"instruction": "Why?", "response": answers[0]}]))
        for kind, file in ((EVALUATION, scores), (SAMPLE_RESPONSES, samples)):
            settings = {"settings": kind.code_version(family), "epoch": epoch}
            self.store.publish(
                kind.address("tiny", DATASET, epoch).name,
                {file.name: file},
                kind=kind.name,
                inputs=inputs,
                attributes={
                    **settings,
                    "answers": "exact" if exact else "open",
                    "exact_match": 0.5 if exact else None,
                    "held_out_loss": 1.0,
                },
            )

    def judge(self, epoch: int = 1, **changed: Any) -> dg.ExecuteInProcessResult:
        family = self.family(**changed)
        cache = str(self.folder / "cache")
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(str(DATASETS.name), [DATASET])
            return dg.materialize(
                [build_judgement(family)],
                instance=instance,
                partition_key=partition_key(DATASET, epoch),
                resources={"store": StoreResource(url=self.store.url, cache_dir=cache)},
            )

    def newest(self) -> Artifact:
        found = self.store.latest(f"tiny/judgement/{DATASET}/01")
        assert found
        return found

    def found(self) -> JudgementAttributes:
        return JudgementAttributes.of(self.newest())


@pytest.fixture
def court(store: ArtifactStore, publish: Publish, tmp_path: Path) -> Iterator[Court]:
    with running() as server:
        yield Court(store, publish, tmp_path, server)


def checks(result: dg.ExecuteInProcessResult) -> list[tuple[str, bool]]:
    found = result.filter_events(lambda event: event.event_type_value == "ASSET_CHECK_EVALUATION")
    data = [event.asset_check_evaluation_data for event in found]
    return [(each.check_name, each.passed) for each in data]


def test_a_better_epoch_wins_and_nothing_is_asked_twice(court: Court) -> None:
    court.answered(0, WORSE)
    court.answered(1, BETTER)
    result = court.judge()
    assert checks(result) == [(CHECK, True)]
    [materialization] = result.asset_materializations_for_node("tiny__judgement")
    assert str(materialization.metadata["verdict"].value).startswith("epoch 1 wins 100.0 % (95 %")
    found, first = court.found(), court.newest()
    assert (found.win_rate, found.wins, found.pairs) == (1, RECORDS, RECORDS)
    assert found.judge_reported == ["stand-in-v2"]
    assert (found.prompt_tokens, found.completion_tokens) == (200 * RECORDS, 14 * RECORDS)
    exchanges = first.read_table(EXCHANGES_FILE)
    assert exchanges.num_rows == len(court.server.seen) == 2 * RECORDS
    assert "begin of answer A" in exchanges["prompt"][0].as_py()
    assert first.read_table(VERDICTS_FILE)["result"].to_pylist() == ["win"] * RECORDS
    assert is_current(court.store, court.family(), first)

    court.judge()
    assert court.newest().digest == first.digest
    court.judge(records=4, most_not_understood=0.5)
    assert court.found().pairs == 4
    assert len(court.server.seen) == 2 * RECORDS, "both are known"
    assert is_current(court.store, court.family(records=4, most_not_understood=0.5), court.newest())
    assert not is_current(court.store, court.family(), court.newest())

    epochs = scored_epochs(court.store, court.family(records=4, most_not_understood=0.5), "animals")
    judgement = epochs[1].judgement
    assert judgement
    assert judgement.digest == court.newest().digest
    court.answered(0, BETTER[::-1])
    epochs = scored_epochs(court.store, court.family(records=4, most_not_understood=0.5), "animals")
    assert epochs[1].judgement is None, "the base model has answered again"


def test_a_worse_epoch_is_warned_of(court: Court) -> None:
    court.answered(0, BETTER)
    court.answered(1, WORSE)
    assert checks(court.judge()) == [(CHECK, False)]
    assert court.found().losses == RECORDS


def test_an_interrupted_judgement_goes_on_where_it_was(court: Court) -> None:
    court.answered(0, WORSE)
    court.answered(1, BETTER)
    court.server.reply = _failing_after(court.server, 2 * PAIRS_PER_COMMIT + 3)
    with pytest.raises(JudgeError, match="answered 400"):
        court.judge()
    assert court.found().verdict is None
    assert not is_current(court.store, court.family(), court.newest())
    kept = court.newest().read_table(EXCHANGES_FILE).num_rows
    assert kept >= 2 * PAIRS_PER_COMMIT
    asked = len(court.server.seen)
    court.server.scripted, court.server.reply = [], prefers_more
    court.judge()
    assert court.found().wins == RECORDS
    assert len(court.server.seen) - asked == 2 * RECORDS - kept


def _failing_after(server: StandInJudge, requests: int) -> Callable[[Seen], str]:
    def reply(seen: Seen) -> str:
        if len(server.seen) >= requests:
            server.scripted = [Raw(400)] * 8
        return prefers_more(seen)

    return reply


def test_open_answers_are_judged_by_the_familys_own_prompts(court: Court) -> None:
    court.answered(0, ["no"], exact=False)
    court.answered(1, ["a long story"], exact=False)
    court.judge()
    found = court.found()
    assert (found.answers_of, found.pairs, found.wins) == ("sample_responses", 1, 1)
    assert court.newest().read_table(VERDICTS_FILE)["prompt"].to_pylist() == ["Why?"]


def test_the_base_model_must_have_answered(court: Court) -> None:
    court.answered(1, BETTER)
    with pytest.raises(ArtifactError, match=r"00.* is not in the store .*: materialize it"):
        court.judge()
    assert not court.server.seen


def test_nothing_is_judged_of_the_base_model(court: Court) -> None:
    result = court.judge(epoch=0)
    assert result.success
    assert not result.asset_materializations_for_node("tiny__judgement")


def test_a_judge_changes_the_digest_of_no_other_asset(court: Court) -> None:
    plain, judged = tiny_family(), court.family()
    changed = {
        kind.name
        for kind in KINDS.values()
        if kind.code_version(plain) != kind.code_version(judged)
    }
    assert changed == {"judgement"}
