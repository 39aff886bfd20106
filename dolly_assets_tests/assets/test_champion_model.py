"""Who becomes champion, and what is told of it.

Dagster and the store are real; the scores are made up.
"""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.assets.champion_model import build_champion_model
from dolly_assets.core.names import epoch_key
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.family import Evaluation, ModelFamily
from dolly_assets.registry.kinds import DECISION_FILE, EVALUATION
from dolly_assets.registry.lineage import Lineage
from dolly_assets.registry.promotion import Author, roll_back
from dolly_assets.scoring import ChampionRule
from dolly_assets.scoring.examples import SCORES_FILE
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.conventions import TABLE_FILE
from dolly_assets.storage.io_manager import ArtifactIOManager
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.scoring.tables import scored
from dolly_assets_tests.tiny_training import DATASET, RAW, tiny_family

FAMILY = tiny_family()
Scores = tuple[float, float]  # exact match, held-out loss
EXAMPLES = 100
BASE: Scores = (0.0, 6.0)


class Contest:
    """Trainings of the family `tiny` on one dataset that never changes, and each one's champion."""

    def __init__(self, store: ArtifactStore, publish: Publish, folder: Path) -> None:
        self.store, self._publish, self._folder = store, publish, folder
        self._inputs = {
            "base_model": publish([FAMILY.name, "base_model"]).digest,
            "tokenized_dataset": self._tokenized().digest,
        }

    def _tokenized(self) -> Artifact:
        """Sound data, with a split."""
        raw, split = self._folder / TABLE_FILE, self._folder / "split"
        pq.write_table(RAW, raw)
        data = self.store.publish(f"raw_dataset/{DATASET}", {TABLE_FILE: raw}, kind="raw_dataset")
        split.mkdir()
        for side, records in (("train", range(20)), ("held_out", range(20, RAW.num_rows))):
            table = pa.table({"record": [*records]})
            with pa.ipc.new_file(split / f"{side}.arrow", table.schema) as file:
                file.write_table(table)
        return self.store.publish(
            f"{FAMILY.name}/tokenized_dataset/{DATASET}",
            split,
            kind="tokenized_dataset",
            inputs={data.name: data.digest},
        )

    def trained(self, name: str, *scores: Scores) -> None:
        """A training's base model and epochs were scored and compared."""
        shown = {}
        for epoch, (exact_match, loss) in enumerate(scores):
            of = (DATASET, epoch_key(epoch))
            facts = {
                "epoch": epoch,
                "training": name,
                "weights_sha256": f"{name} {epoch}",
                "commercial_use": "no",
            }
            text = name if epoch else ""  # the base model is the same in each
            checkpoint = self._publish(
                [FAMILY.name, "model_checkpoint"],
                *of,
                text=text,
                inputs=self._inputs,
                attributes=facts,
            )
            evaluation = self._scored(of, checkpoint, exact_match, loss)
            shown |= {checkpoint.name: checkpoint.digest, evaluation.name: evaluation.digest}
        self._publish([FAMILY.name, "epoch_comparison"], DATASET, text=name, inputs=shown)

    def _scored(
        self, of: tuple[str, str], checkpoint: Artifact, exact_match: float, loss: float
    ) -> Artifact:
        right = round(exact_match * EXAMPLES)
        answers = ["yes"] * right + ["no"] * (EXAMPLES - right)
        file = self._folder / SCORES_FILE
        pq.write_table(scored(answers, [loss] * EXAMPLES), file)
        return self.store.publish(
            "/".join([FAMILY.name, "evaluation", *of]),
            {SCORES_FILE: file},
            kind="evaluation",
            inputs={**self._inputs, checkpoint.name: checkpoint.digest},
            attributes={
                "settings": EVALUATION.code_version(FAMILY),
                "answers": "exact",
                "exact_match": exact_match,
                "held_out_loss": loss,
                "exact_match_interval": [exact_match - 0.1, exact_match + 0.1],
            },
        )

    def champion(self, family: ModelFamily = FAMILY, **config: Any) -> Artifact:
        """Materializes it."""
        settings: dict[str, Any] = {
            "url": self.store.url,
            "cache_dir": str(self._folder / "cache"),
        }
        store = StoreResource(**settings)
        resources = {
            "store": store,
            "io_manager": ArtifactIOManager(**settings),
            "worker": WorkerResource(store=store, scratch_dir=str(self._folder / "scratch")),
        }
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(str(DATASETS.name), [DATASET])
            assets = [build_champion_model(family)]
            run_config = {"ops": {f"{family.name}__champion_model": {"config": config}}}
            assert dg.materialize(
                assets,
                instance=instance,
                partition_key=DATASET,
                resources=resources,
                run_config=run_config if config else None,
            ).success
        champion = self.store.latest(f"{FAMILY.name}/champion_model/{DATASET}")
        assert champion
        return champion


@pytest.fixture
def contest(store: ArtifactStore, publish: Publish, tmp_path: Path) -> Contest:
    return Contest(store, publish, tmp_path)


def told(champion: Artifact) -> tuple[Any, Any, Any]:
    facts = champion.manifest.attributes
    return facts["verdict"], facts["weights_sha256"], facts["reason"]


def test_the_first_training_is_measured_against_the_base_model(contest: Contest) -> None:
    contest.trained("first", BASE, (0.5, 1.0))
    assert told(contest.champion()) == (
        "promoted",
        "first 1",
        "epoch 1 is promoted: exact match +0.5000 (95 % from +0.4000 to +0.6000), p < 0.0001",
    )


def test_a_training_that_made_things_worse_leaves_the_base_model_champion(contest: Contest) -> None:
    contest.trained("first", (0.5, 6.0), (0.4, 7.0))
    verdict, weights, reason = told(contest.champion())
    assert (verdict, weights) == ("rejected", "first 0")
    assert reason.startswith("epoch 1 is rejected: its exact match is no better (exact match -0.10")


def test_a_gain_that_may_be_chance_is_no_promotion(contest: Contest) -> None:
    contest.trained("first", (0.5, 6.0), (0.52, 5.0))
    verdict, weights, reason = told(contest.champion())
    assert (verdict, weights) == ("rejected", "first 0")
    assert "which may be chance: p = 0.2" in reason


def test_the_best_epoch_is_promoted_though_a_later_one_is_worse(contest: Contest) -> None:
    contest.trained("first", BASE, (0.5, 1.0), (0.9, 1.0), (0.7, 1.0))
    assert told(contest.champion())[:2] == ("promoted", "first 2")


@pytest.mark.slow
def test_a_champion_is_defended_and_stays_the_same_data(contest: Contest) -> None:
    contest.trained("first", BASE, (0.5, 1.0))
    first = contest.champion()
    contest.trained("second", BASE, (0.4, 0.1))
    champion = contest.champion()
    assert told(champion)[:2] == ("rejected", "first 1")
    assert champion.digest == first.digest
    contest.trained("third", BASE, (0.7, 2.0))
    assert told(contest.champion())[:2] == ("promoted", "third 1")


@pytest.mark.slow
def test_the_same_comparison_again_changes_nothing(contest: Contest) -> None:
    contest.trained("first", BASE, (0.5, 1.0))
    first, again = contest.champion(), contest.champion()
    assert (told(again)[0], again.digest) == ("unchanged", first.digest)


@pytest.mark.slow
def test_a_champion_carries_its_licence_and_leads_back_to_its_data(contest: Contest) -> None:
    contest.trained("first", BASE, (0.5, 1.0))
    champion = contest.champion()
    assert champion.manifest.attributes["commercial_use"] == "no"
    made_from = {each.manifest.kind for each in Lineage(contest.store, champion).ancestors}
    assert {"model_checkpoint", "tokenized_dataset", "base_model"} <= made_from


def test_the_table_behind_a_verdict_is_kept_beside_the_champion(contest: Contest) -> None:
    contest.trained("first", BASE, (0.5, 1.0), (0.7, 1.0))
    champion = contest.champion()
    decision = json.loads(champion.read_bytes(DECISION_FILE))
    assert decision["verdict"] == "promoted"
    assert [(line["name"], line["score"], line["gain"]) for line in decision["alternatives"]] == [
        ("the base model", 0.0, None),
        ("epoch 1", 0.5, 0.5),
        ("epoch 2", 0.7, 0.7),
    ]
    assert "| epoch 2 | 0.7000" in str(champion.manifest.attributes["decision_markdown"])
    candidate = contest.store.latest(f"{FAMILY.name}/candidate_model/{DATASET}")
    assert candidate
    assert candidate.manifest.attributes["checkpoint"] == champion.manifest.attributes["checkpoint"]


@pytest.mark.slow
def test_what_awaits_approval_becomes_champion_when_a_person_approves(contest: Contest) -> None:
    family = FAMILY.model_copy(update={"champion": ChampionRule(approval="required")})
    contest.trained("first", BASE, (0.5, 1.0))
    verdict, weights, reason = told(contest.champion(family))
    assert (verdict, weights) == ("awaiting approval", "first 0")
    assert reason.startswith("epoch 1 awaits approval: exact match +0.5000")
    verdict, weights, reason = told(
        contest.champion(family, approve=True, reason="read the answers")
    )
    assert (verdict, weights) == ("promoted", "first 1")
    assert reason.endswith(": read the answers")


@pytest.mark.slow
def test_a_rule_does_not_promote_what_a_person_rolled_back(contest: Contest) -> None:
    contest.trained("first", BASE, (0.5, 1.0))
    contest.champion()
    contest.trained("second", BASE, (0.9, 1.0))
    assert told(contest.champion())[1] == "second 1"
    author = Author("ada", "answers are rude")
    roll_back(contest.store, FAMILY.name, DATASET, stage="production", author=author)
    verdict, weights, reason = told(contest.champion())
    assert (verdict, weights) == ("rejected", "first 1")
    assert (
        reason == "epoch 1 is rejected: it was rolled back, and only a person can promote it again"
    )


def test_an_epoch_that_may_have_forgotten_too_much_is_rejected(
    contest: Contest, tmp_path: Path
) -> None:
    suites = Evaluation.model_validate({"suites": {"general": {}}}).resolved(tmp_path)
    rule = ChampionRule(may_not_lose={"general": 0.02})
    family = FAMILY.model_copy(update={"evaluation": suites, "champion": rule})
    contest.trained("first", BASE, (0.5, 1.0))
    verdict, weights, reason = told(contest.champion(family))
    assert (verdict, weights) == ("rejected", "first 0")
    assert reason.endswith(
        "but it has no scores on the suite general as it is now: materialize suite_scores, then "
        "champion_model"
    )
