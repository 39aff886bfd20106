"""From a dataset's name to compared epochs: materializes only what is missing or out of date.

What is current is decided by the store (`registry/currency.py`). It must be known to the Dagster
instance too, so that the UI shows it.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import groupby

import dagster as dg

from dolly_assets.core.errors import DatasetError, DollyError
from dolly_assets.dagster_support.events import DATA_VERSION
from dolly_assets.dagster_support.partitions import partition_key, partition_of
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.licenses import UNKNOWN, check_use, licensed_inputs
from dolly_assets.family import ModelFamily
from dolly_assets.pipeline.session import Session
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.currency import Requirements, of_training, requirements
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    CHAMPION_EXPORT,
    CHAMPION_MODEL,
    EPOCH_COMPARISON,
    EVALUATION,
    GPU_PROFILE,
    JUDGEMENT,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    SAMPLE_RESPONSES,
    SUITE_SCORES,
    TOKENIZED_DATASET,
    TRAINING_PLAN,
    TRAINING_PROFILE,
    AssetKind,
)
from dolly_assets.registry.profiles import profiles_of_newest_training
from dolly_assets.registry.quality_reports import licenses_of, require_sound, require_trainable
from dolly_assets.registry.queries import latest, newest_training, required
from dolly_assets.registry.raw_datasets import is_unchanged
from dolly_assets.registry.training import Training, plan_resume
from dolly_assets.storage.artifact import Artifact

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pipeline:
    """The assets of one family on one dataset.

    Attributes:
        session: The environment to work in.
        family: The family to train.
        dataset: The dataset's name.
    """

    session: Session
    family: ModelFamily
    dataset: str

    def run(self, epochs: Sequence[int], *, retrain: bool = False) -> int:
        """Bring epochs, their scores and the comparison up to date.

        Args:
            epochs: The epochs to train, ascending.
            retrain: Train also epochs that are already in the store.

        Returns:
            The number of runs that it took.

        Raises:
            DollyError: Something cannot be materialized; what was published before is kept.
        """
        self._check_declared_license()
        self.session.register_datasets([self.dataset])
        runs = self._update_raw_dataset()
        raw_dataset = required(self.session.store, self._address(RAW_DATASET))
        check_use(self.family.use, licenses_of(self.family, raw_dataset))
        require_sound(self.session.store, raw_dataset)
        runs += self._update(BASE_MODEL) + self._update(TOKENIZED_DATASET)
        runs += self._train(epochs, retrain)
        if profiles_of_newest_training(self.session.store, self.family, self.dataset).whole:
            runs += self._update(TRAINING_PROFILE)
        scored = sorted(newest_training(self.session.store, self.family, self.dataset))
        runs += self._score(EVALUATION, scored) + self._score(SAMPLE_RESPONSES, scored)
        if self.family.evaluation.suites:
            runs += self._score(SUITE_SCORES, scored)
        with self._judged(scored) as judged:
            runs += judged + self._update(EPOCH_COMPARISON) + self._update(CHAMPION_MODEL)
            return runs + (self._update(CHAMPION_EXPORT) if self.family.export else 0)

    def _check_declared_license(self) -> None:
        """Refuse a declared licence before anything is read.

        A licence that only the source states is checked when the source has been read.
        """
        stated = self.session.catalogue.get(self.dataset).license
        if stated != UNKNOWN:
            inputs = licensed_inputs(
                self.family.name,
                self.dataset,
                dataset_license=stated,
                base_model_license=self.family.base_model.license,
            )
            check_use(self.family.use, inputs)

    def _update_raw_dataset(self) -> int:
        """Materialize the raw dataset unless its source is unchanged; return the number of runs."""
        address = self._address(RAW_DATASET)
        artifact = latest(self.session.store, address)
        dataset = self.session.catalogue.get(self.dataset)
        if (
            artifact
            and _unchanged_if_reachable(dataset, artifact)
            and self._is_known(artifact, address)
        ):
            return 0
        self.session.materialize([address.asset_key], partition_of(address))
        return 1

    def _update(self, kind: AssetKind) -> int:
        """Materialize an asset unless it is current; return the number of runs."""
        address = self._address(kind)
        if self._is_current(address):
            return 0
        self.session.materialize([address.asset_key], partition_of(address))
        return 1

    def _train(self, epochs: Sequence[int], retrain: bool) -> int:
        """Train what is missing of the epochs and the base model; return the number of runs."""
        training = Training.newest(self.session.store, self.family, self.dataset)
        wanted = sorted({0, *epochs}) if epochs[0] == 1 else list(epochs)
        missing = [
            epoch for epoch in wanted if retrain or not self._epoch_is_current(training, epoch)
        ]
        if not retrain and (stopped := training.stopped_early(self.session.store)):
            LOG.info("%s", stopped.sentence)
            missing = [epoch for epoch in missing if epoch <= stopped.epoch]
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
            keys = [kind.key(self.family.name) for kind in (MODEL_CHECKPOINT, GPU_PROFILE)]
            self.session.materialize(
                keys, partition_key(self.dataset, first), partition_key(self.dataset, last), config
            )
        return runs + len(ranges)

    def _plan(self, training: Training, epochs: int) -> int:
        """Materialize the plan if it is out of date; return the number of runs.

        Raises:
            TrainingError: The training cannot fit. The plan, whose check fails, is published
                nevertheless.
        """
        estimate = self.session.estimator.estimate(self.session.store, training, epochs=epochs)
        runs = 0
        with suppress(dg.DagsterError) if estimate.plan.fits is False else nullcontext():
            runs = self._update(TRAINING_PLAN)
        estimate.refuse_what_cannot_fit()
        return runs

    def _score(self, kind: AssetKind, epochs: Iterable[int]) -> int:
        """Score or sample the epochs that lack it; return the number of runs."""
        stale = [epoch for epoch in epochs if not self._is_current(self._address(kind, epoch))]
        ranges = list(_ranges(stale))
        for first, last in ranges:
            self.session.materialize(
                [kind.key(self.family.name)],
                partition_key(self.dataset, first),
                partition_key(self.dataset, last),
            )
        return len(ranges)

    @contextmanager
    def _judged(self, epochs: Iterable[int]) -> Iterator[int]:
        """Have the epochs judged, and yield the number of runs.

        Comparison and champion do not depend on a judge: if it fails, this is raised after them.
        """
        runs, failure = 0, None
        if self.family.evaluation.judge:
            try:
                runs = self._score(JUDGEMENT, filter(None, epochs))
            except DollyError as error:
                LOG.warning("%s", error)
                failure = error
        yield runs
        if failure:
            raise failure

    def _epoch_is_current(self, training: Training, epoch: int) -> bool:
        needed = of_training(training)
        return all(
            self._is_current(self._address(kind, epoch), needed)
            for kind in (MODEL_CHECKPOINT, GPU_PROFILE)
        )

    def _is_current(self, address: ArtifactAddress, needed: Requirements | None = None) -> bool:
        """Whether the newest artifact at an address is up to date, and known to Dagster."""
        artifact = latest(self.session.store, address)
        if artifact is None:
            return False
        needed = needed or requirements(self.session.store, self.family, address)
        return needed.are_met_by(artifact) and self._is_known(artifact, address)

    def _is_known(self, artifact: Artifact, address: ArtifactAddress) -> bool:
        """Whether the newest materialization in the Dagster instance is this artifact."""
        partition = partition_of(address)
        filters = dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(address.asset_key),
            asset_partitions=[partition] if partition else None,
        )
        records = self.session.instance.fetch_materializations(filters, limit=1).records
        event = records[0].asset_materialization if records else None
        return bool(event and event.tags and event.tags.get(DATA_VERSION) == artifact.digest)

    def _address(self, kind: AssetKind, epoch: int | None = None) -> ArtifactAddress:
        return kind.address(self.family.name, self.dataset, epoch)


def _unchanged_if_reachable(dataset: DatasetConfig, artifact: Artifact) -> bool:
    """Whether the source is unchanged; one that is out of reach now counts as unchanged."""
    try:
        return is_unchanged(dataset, artifact)
    except DatasetError as error:
        LOG.warning(
            "using the dataset of %s: %s", f"{artifact.manifest.created_at:%Y-%m-%d}", error
        )
        return True


def _ranges(epochs: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Yield the ranges of consecutive epochs: 0 2 3 4 gives (0, 0), (2, 4)."""
    for _, group in groupby(enumerate(epochs), lambda pair: pair[1] - pair[0]):
        consecutive = [epoch for _, epoch in group]
        yield consecutive[0], consecutive[-1]
