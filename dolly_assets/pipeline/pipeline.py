"""From a dataset's name to compared epochs: materializes what is missing or out of date, and nothing else.

What is current is read off the store: an artifact whose settings are the family's and whose inputs
are the newest ones. It must be known to the Dagster instance too, so that the UI shows it.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import groupby

import dagster as dg

from dolly_assets.assets.epoch_comparison import (
    comparison_inputs,
    is_score_of,
    newest_training,
    scores_of,
)
from dolly_assets.assets.raw_dataset import is_unchanged
from dolly_assets.assets.training_profile import profiles_of_newest_training
from dolly_assets.core.errors import DatasetError
from dolly_assets.dagster_support.events import DATA_VERSION
from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.licenses import UNKNOWN, check_use, licensed_inputs
from dolly_assets.family import ModelFamily
from dolly_assets.pipeline.session import Session
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    EPOCH_COMPARISON,
    KINDS,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    TOKENIZED_DATASET,
    AssetKind,
)
from dolly_assets.registry.planner import estimate_training
from dolly_assets.registry.quality_reports import licenses_of, require_sound, require_trainable
from dolly_assets.registry.queries import latest, required
from dolly_assets.registry.training_state import Training, plan_resume
from dolly_assets.storage.artifact import Artifact

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pipeline:
    """The assets of one family on one dataset."""

    session: Session
    family: ModelFamily
    dataset: str

    def run(self, epochs: Sequence[int], *, retrain: bool = False) -> int:
        """Brings epochs, their scores and the comparison up to date; returns the number of runs that it took.

        Raises:
            DollyError: Something cannot be materialized; what was published before is kept.
        """
        self._check_declared_license()
        self.session.register_datasets([self.dataset])
        runs = self._materialize(["raw_dataset"], self._raw_is_current())
        raw_dataset = required(self.session.store, RAW_DATASET.address(dataset=self.dataset))
        check_use(self.family.use, licenses_of(self.family, raw_dataset))
        require_sound(self.session.store, raw_dataset)
        runs += self._materialize(
            [self.family.name, "base_model"], self._base_is_current(), of_dataset=False
        )
        runs += self._materialize(
            [self.family.name, "tokenized_dataset"], self._tokenized_is_current()
        )
        runs += self._train(epochs, retrain)
        runs += self._materialize(
            [self.family.name, "training_profile"], self._training_profile_is_current()
        )
        scored = sorted(newest_training(self.session.store, self.family, self.dataset))
        runs += self._score("evaluation", scored) + self._score("sample_responses", scored)
        runs += self._materialize(
            [self.family.name, "epoch_comparison"], self._comparison_is_current()
        )
        runs += self._materialize([self.family.name, "champion_model"], self._champion_is_current())
        return runs

    def _check_declared_license(self) -> None:
        """Refuses before anything is read; a licence that only the source states is looked at when that was read."""
        stated = self.session.catalogue.get(self.dataset).license
        if stated != UNKNOWN:
            inputs = licensed_inputs(
                self.family.name,
                self.dataset,
                dataset_license=stated,
                base_model_license=self.family.base_model.license,
            )
            check_use(self.family.use, inputs)

    def _materialize(self, key: list[str], is_current: bool, *, of_dataset: bool = True) -> int:
        if not is_current:
            self.session.materialize([key], self.dataset if of_dataset else None)
        return int(not is_current)

    def _train(self, epochs: Sequence[int], retrain: bool) -> int:
        training = Training(
            self.family,
            self.dataset,
            self._require(BASE_MODEL),
            self._require(TOKENIZED_DATASET),
        )
        wanted = sorted({0, *epochs}) if epochs[0] == 1 else list(epochs)
        missing = [
            epoch for epoch in wanted if retrain or not self._epoch_is_current(training, epoch)
        ]
        if 0 not in wanted and not self._epoch_is_current(training, 0):
            missing.insert(0, 0)
        ranges = list(_ranges(missing))
        trained = sum(epoch > 0 for epoch in missing)
        runs = self._plan(training, trained) if trained else 0
        for first, last in ranges:  # refused before anything runs
            plan_resume(self.session.store, training, range(first, last + 1), retrain=retrain)
        if ranges:
            require_trainable(self.session.store, self.family, training.tokenized_dataset)
        for first, last in ranges:
            config = {f"{self.family.name}__fine_tune": {"config": {"retrain": retrain}}}
            keys = [[self.family.name, asset] for asset in ("model_checkpoint", "gpu_profile")]
            self.session.materialize(
                keys, partition_key(self.dataset, first), partition_key(self.dataset, last), config
            )
        return runs + len(ranges)

    def _plan(self, training: Training, epochs: int) -> int:
        """Materializes the plan if it is out of date.

        Raises:
            TrainingError: The training cannot fit. The plan, whose check fails, is there to be
                looked at.
        """
        key = [self.family.name, "training_plan"]
        inputs = {
            "base_model": training.base_model.digest,
            "tokenized_dataset": training.tokenized_dataset.digest,
        }
        has_settings = self._has_settings("training_plan")
        is_current = self._is_current(
            key, self.dataset, lambda item: item.manifest.inputs == inputs and has_settings(item)
        )
        estimate = estimate_training(
            self.session.store, training, self.session.prices, epochs=epochs
        )
        with suppress(dg.DagsterError) if estimate.plan.fits is False else nullcontext():
            self._materialize(key, is_current)
        estimate.refuse_what_cannot_fit()
        return int(not is_current)

    def _score(self, asset: str, epochs: Iterable[int]) -> int:
        ranges = list(
            _ranges(epoch for epoch in epochs if not self._score_is_current(asset, epoch))
        )
        for first, last in ranges:
            key = [self.family.name, asset]
            self.session.materialize(
                [key], partition_key(self.dataset, first), partition_key(self.dataset, last)
            )
        return len(ranges)

    def _raw_is_current(self) -> bool:
        dataset = self.session.catalogue.get(self.dataset)
        return self._is_current(
            ["raw_dataset"], self.dataset, lambda item: _unchanged_if_reachable(dataset, item)
        )

    def _base_is_current(self) -> bool:
        return self._is_current(
            [self.family.name, "base_model"], None, self._has_settings("base_model")
        )

    def _tokenized_is_current(self) -> bool:
        raw_dataset = required(self.session.store, RAW_DATASET.address(dataset=self.dataset))
        inputs = {
            "raw_dataset": raw_dataset.digest,
            "base_model": self._require(BASE_MODEL).digest,
        }
        answers = raw_dataset.manifest.attributes["answers"]
        has_settings = self._has_settings("tokenized_dataset")
        return self._is_current(
            [self.family.name, "tokenized_dataset"],
            self.dataset,
            lambda item: (
                item.manifest.inputs == inputs
                and item.manifest.attributes["answers"] == answers
                and has_settings(item)
            ),
        )

    def _epoch_is_current(self, training: Training, epoch: int) -> bool:
        partition = partition_key(self.dataset, epoch)
        return all(
            self._is_current(
                [self.family.name, asset],
                partition,
                lambda item: item.manifest.attributes["training"] == training.digest,
            )
            for asset in ("model_checkpoint", "gpu_profile")
        )

    def _score_is_current(self, asset: str, epoch: int) -> bool:
        checkpoint = self._require(MODEL_CHECKPOINT, epoch)
        answers = self._require(TOKENIZED_DATASET).manifest.attributes["answers"]
        settings = KINDS[asset].code_version(self.family)
        return self._is_current(
            [self.family.name, asset],
            partition_key(self.dataset, epoch),
            lambda item: (
                is_score_of(item, checkpoint, settings)
                and (asset != "evaluation" or item.manifest.attributes["answers"] == answers)
            ),
        )

    def _comparison_is_current(self) -> bool:
        store = self.session.store
        epochs = newest_training(store, self.family, self.dataset)
        scores = {
            epoch: scores_of(store, self.family, self.dataset, epoch, item)
            for epoch, item in epochs.items()
        }
        inputs = comparison_inputs(epochs, scores)
        return self._is_current(
            [self.family.name, "epoch_comparison"],
            self.dataset,
            lambda item: item.manifest.inputs == inputs,
        )

    def _training_profile_is_current(self) -> bool:
        profiles = profiles_of_newest_training(self.session.store, self.family, self.dataset)
        return not profiles.whole or self._is_current(
            [self.family.name, "training_profile"],
            self.dataset,
            lambda item: (
                item.manifest.inputs == profiles.inputs
                and item.manifest.attributes["cut"] == profiles.cut_digests
            ),
        )

    def _champion_is_current(self) -> bool:
        comparison = self._require(EPOCH_COMPARISON)
        return self._is_current(
            [self.family.name, "champion_model"],
            self.dataset,
            lambda item: item.manifest.inputs["epoch_comparison"] == comparison.digest,
        )

    def _has_settings(self, asset: str) -> Callable[[Artifact], bool]:
        digest = KINDS[asset].code_version(self.family)
        return lambda item: item.manifest.attributes.get("settings") == digest

    def _is_current(
        self, key: list[str], partition: str | None, fits: Callable[[Artifact], bool]
    ) -> bool:
        address = ArtifactAddress.of_partition(key, partition)
        artifact = latest(self.session.store, address)
        return artifact is not None and fits(artifact) and self._is_known(artifact, partition)

    def _is_known(self, artifact: Artifact, partition: str | None) -> bool:
        """Whether the newest materialization in the Dagster instance is this artifact."""
        key = dg.AssetKey(ArtifactAddress.parse(artifact.name).asset_key)
        filters = dg.AssetRecordsFilter(
            asset_key=key, asset_partitions=[partition] if partition else None
        )
        records = self.session.instance.fetch_materializations(filters, limit=1).records
        event = records[0].asset_materialization if records else None
        return bool(event and event.tags and event.tags.get(DATA_VERSION) == artifact.digest)

    def _require(self, kind: AssetKind, epoch: int | None = None) -> Artifact:
        return required(self.session.store, kind.address(self.family.name, self.dataset, epoch))


def _unchanged_if_reachable(dataset: DatasetConfig, artifact: Artifact) -> bool:
    """A source that is out of reach now does not keep from training on what the store has of it."""
    try:
        return is_unchanged(dataset, artifact)
    except DatasetError as error:
        LOG.warning(
            "going on with the dataset of %s: %s", f"{artifact.manifest.created_at:%Y-%m-%d}", error
        )
        return True


def _ranges(epochs: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Runs of consecutive epochs: 0 2 3 4 -> (0, 0), (2, 4)."""
    for _, group in groupby(enumerate(epochs), lambda pair: pair[1] - pair[0]):
        consecutive = [epoch for _, epoch in group]
        yield consecutive[0], consecutive[-1]
