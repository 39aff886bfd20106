"""What a model may not lose on its family's suites, against the champion's scores in the store."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from dolly_assets.core.names import epoch_key
from dolly_assets.family import Evaluation, FamilyAttributes, ModelFamily
from dolly_assets.registry.attributes import SuiteScore, SuiteScoresAttributes
from dolly_assets.registry.kinds import SUITE_SCORES, suite_settings
from dolly_assets.registry.suite_losses import lost_on_suites
from dolly_assets.registry.suite_scores import results_file, weights_of
from dolly_assets.scoring import ChampionRule
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.suites.results import rows_of
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.tiny_training import DATASET, tiny_family

QUESTIONS = 200


class Scored:
    """Checkpoints of a family with the suites `legs` and `prose`, which of them scored what."""

    def __init__(self, store: ArtifactStore, publish: Publish, folder: Path) -> None:
        self.store, self._publish, self._folder = store, publish, folder
        (folder / "legs.jsonl").write_text(json.dumps({"prompt": "Legs?", "expected": "4"}))
        (folder / "prose.jsonl").write_text(json.dumps({"scorer": "text", "text": "A cat."}))
        suites = {name: {"file": f"{name}.jsonl"} for name in ("legs", "prose")}
        evaluation = Evaluation.model_validate({"suites": suites}).resolved(folder)
        self.family = tiny_family().model_copy(update={"evaluation": evaluation})

    def may_not_lose(self, **limits: float) -> ModelFamily:
        return self.family.model_copy(update={"champion": ChampionRule(may_not_lose=limits)})

    def model(
        self, epoch: int, *, right: int | None = None, bits: float = 0.0, settings: str = ""
    ) -> Artifact:
        """A checkpoint with this many right answers, and these bits per byte of prose."""
        of = (DATASET, epoch_key(epoch))
        attributes = {"epoch": epoch, "training": "t", "weights_sha256": str(epoch)}
        checkpoint = self._publish(
            ["tiny", "model_checkpoint"],
            *of,
            inputs={"base_model": self._publish(["tiny", "base_model"]).digest},
            attributes=attributes,
        )
        if right is not None:
            self._score(checkpoint, of, right, bits, settings)
        return checkpoint

    def _score(
        self, model: Artifact, of: tuple[str, str], right: int, bits: float, settings: str
    ) -> None:
        answered: list[dict[str, Any]] = [
            {"id": str(line), "scorer": "exact", "score": float(line < right)}
            for line in range(QUESTIONS)
        ]
        texts = [
            {"id": str(line), "scorer": "text", "loss": bits * 0.693147 * 100, "bytes": 100}
            for line in range(50)
        ]
        files = {}
        for name, rows in (("legs", answered), ("prose", texts)):
            files[results_file(name)] = self._folder / results_file(name)
            pq.write_table(rows_of(rows), files[results_file(name)])
        scores = {
            name: SuiteScore(settings=settings or suite_settings(self.family, name), records=1)
            for name in ("legs", "prose")
        }
        attributes = SuiteScoresAttributes(
            epoch=int(of[1]), weights=weights_of(model), suites=scores
        )
        self.store.publish(
            SUITE_SCORES.address("tiny", *of[:1], int(of[1])).name,
            files,
            kind=SUITE_SCORES.name,
            attributes=attributes.as_json(),
        )

    def lost(self, family: ModelFamily, new: Artifact, old: Artifact) -> list[str]:
        return lost_on_suites(self.store, family, DATASET, new, old)


@pytest.fixture
def models(store: ArtifactStore, publish: Publish, tmp_path: Path) -> Scored:
    return Scored(store, publish, tmp_path)


def test_a_loss_whose_interval_ends_below_the_limit_is_allowed(models: Scored) -> None:
    old, new = models.model(1, right=120), models.model(2, right=118)
    assert models.lost(models.may_not_lose(legs=0.05), new, old) == []
    [sentence] = models.lost(models.may_not_lose(legs=0.01), new, old)
    assert sentence.startswith("its score on the suite legs may be worse by up to 0.02")
    assert "(-0.0100, 95 % from -0.02" in sentence
    assert sentence.endswith("; at most 0.01 is allowed")


def test_of_texts_the_bits_per_byte_may_not_grow(models: Scored) -> None:
    old, new = models.model(1, right=1, bits=1.0), models.model(2, right=1, bits=1.1)
    family = models.may_not_lose(prose=0.05)
    [sentence] = models.lost(family, new, old)
    assert sentence.startswith(
        "its bits per byte on the suite prose may be worse by up to 0.1000 (+0.1000, 95 % from "
    )
    assert models.lost(family, old, new) == []


def test_a_model_that_lacks_scores_on_the_suite_as_it_is_now_is_told(models: Scored) -> None:
    old, new = models.model(1, right=120), models.model(2, right=118)
    family = models.may_not_lose(legs=0.05)
    [sentence] = models.lost(family, models.model(3), old)
    assert sentence.startswith("it has no scores on the suite legs as it is now: materialize suite")
    [sentence] = models.lost(family, new, models.model(4, right=9, settings="of another suite"))
    assert sentence.startswith("the champion has no scores on the suite legs as it is now")
    assert models.lost(models.family, new, models.model(5)) == []


def test_what_is_neither_a_score_nor_a_suite_is_refused() -> None:
    attributes = {name: value for name, value in tiny_family() if name != "name"}
    rule = ChampionRule(may_not_lose={"held_out_los": 0.1})
    with pytest.raises(ValidationError, match="names 'held_out_los', which is neither a score"):
        FamilyAttributes.model_validate({**attributes, "champion": rule})
