"""Whether a training fits, how long it takes and what it costs, from what the store holds.

Gathers what `planning` computes with: the base model, the rows, the machines, and what earlier
epochs of the family took.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Self

from dolly_assets.core.errors import TrainingError
from dolly_assets.family import ModelFamily
from dolly_assets.generation.batches import BATCH_TOKENS
from dolly_assets.hardware.machine import Machines, host_bytes, named_gpus
from dolly_assets.hardware.visible_gpus import visible_devices
from dolly_assets.planning.calibration import Measured, calibration
from dolly_assets.planning.changes import Change, changes_that_fit
from dolly_assets.planning.model_shape import ModelShape, read_config
from dolly_assets.planning.plan import Plan, PlanRequest, plan
from dolly_assets.planning.prices import Prices
from dolly_assets.planning.rows import TrainingRows
from dolly_assets.planning.scoring import Scoring
from dolly_assets.planning.text import verdict
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import (
    BaseModelAttributes,
    CheckpointAttributes,
    PlanAttributes,
    ProfileAttributes,
)
from dolly_assets.registry.kinds import GPU_PROFILE, MODEL_CHECKPOINT, TRAINING_PLAN
from dolly_assets.registry.queries import newest
from dolly_assets.registry.training import Training
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.tokenization.tokenized_dataset import TRAIN_FILE
from dolly_assets.training.context import Context


@dataclass(frozen=True)
class Estimate:
    """A plan, and what would make it fit if it does not."""

    plan: Plan
    changes: tuple[Change, ...]

    @classmethod
    def of(cls, request: PlanRequest) -> Self:
        """Return the plan of what is requested."""
        made = plan(request)
        return cls(made, changes_that_fit(request) if made.fits is False else ())

    @property
    def verdict(self) -> str:
        """Whether it fits, in a sentence."""
        return verdict(self.plan, self.changes)

    def refuse_what_cannot_fit(self) -> None:
        """Refuse a training that cannot fit.

        Raises:
            TrainingError: It does not fit; the text names the changes that would help.
        """
        if self.plan.fits is False:
            raise TrainingError(self.verdict)


class Estimator:
    """Estimates trainings, and reads what the store knows of one only once until it is trained.

    Args:
        prices_file: A YAML file of prices that are merged over the bundled ones.
        in_cluster: Whether trainings run in a cluster, and not on this machine.
    """

    def __init__(self, prices_file: Path | None = None, *, in_cluster: bool = False) -> None:
        self._prices_file, self._in_cluster = prices_file, in_cluster
        self._known: tuple[tuple[str, ModelFamily, str], PlanRequest] | None = None

    @cached_property
    def prices(self) -> Prices:
        """The prices of GPUs and electricity; raises ConfigurationError if the file is wrong."""
        return Prices.read(self._prices_file)

    def estimate(self, store: ArtifactStore, training: Training, *, epochs: int) -> Estimate:
        """Plan a training for the machines that its family names, or for this one.

        Raises:
            ConfigurationError: The family names a device that is not known, or prices are wrong.
            TrainingError: The ranks cannot share the global batch.
            BaseModelError: The base model's configuration does not say how large it is.
        """
        about = (store.url, training.family, training.digest)
        if self._known is None or self._known[0] != about:
            request = plan_request(
                store, training, self.prices, epochs=epochs, in_cluster=self._in_cluster
            )
            self._known = (about, request)
        return Estimate.of(replace(self._known[1], epochs=epochs))

    def forget(self) -> None:
        """Forget what was read: epochs have been trained since, and calibrate the next estimate."""
        self._known = None


def plan_request(
    store: ArtifactStore,
    training: Training,
    prices: Prices,
    *,
    epochs: int,
    in_cluster: bool = False,
) -> PlanRequest:
    """Return what is planned: the training on its machines, and what earlier epochs took."""
    compute, evaluation = training.family.compute, training.family.evaluation
    if compute.carbon_g_per_kwh is not None:
        prices = prices.model_copy(update={"carbon_g_per_kwh": compute.carbon_g_per_kwh})
    return PlanRequest(
        recipe=training.family.recipe,
        shape=model_shape(training.base_model),
        data=TrainingRows.of(training.tokenized_dataset.read_table(TRAIN_FILE)),
        machines=machines_for(training.family, in_cluster=in_cluster),
        epochs=epochs,
        prices=prices,
        gpu_hour_usd=compute.gpu_hour_usd,
        calibration=calibration(*measured_epochs(store, training.family)),
        scoring=Scoring(
            batch_size=evaluation.batch_size,
            max_new_tokens=evaluation.max_new_tokens,
            batch_tokens=BATCH_TOKENS,
        ),
    )


def model_shape(base_model: Artifact) -> ModelShape:
    """Return the sizes of a base model; of its files only the configuration is read.

    Raises:
        BaseModelError: The configuration does not say how large it is.
    """
    stated = BaseModelAttributes.of(base_model)
    config = read_config(base_model.read_bytes("weights/config.json"), base_model.name)
    shape = ModelShape.of(
        config,
        parameters=stated.parameters,
        vocabulary_rows=stated.embedding_rows,
        tied_embeddings=stated.tied_embeddings,
        name=base_model.name,
    )
    found = {
        "inactive": stated.inactive_parameters,
        "layouts": stated.layouts,
        "context": Context.of(config),
    }
    return shape.model_copy(update=found)


def machines_for(family: ModelFamily, *, in_cluster: bool = False) -> Machines:
    """Return the machines that a family names, else the GPUs of this one, else its CPU.

    If the family needs more GPUs than there are here, they are of an unknown kind.

    Args:
        family: The family.
        in_cluster: Whether it trains in a cluster, which gives it what it requests: what this
            machine has says nothing then.
    """
    compute = family.compute
    of_cluster = int(compute.memory_gib * 2**30)
    if compute.device:
        return named_gpus(
            compute.device, gpus=compute.gpus, nodes=compute.nodes, host_bytes=of_cluster
        )
    devices = [] if in_cluster else visible_devices()
    if compute.gpus > len(devices):  # not this machine's, so it is not known what they are
        ranks = compute.gpus * compute.nodes
        return Machines(
            kind="gpu",
            device=None,
            nodes=compute.nodes,
            ranks=ranks,
            device_bytes=None,
            host_bytes=of_cluster,
        )
    smallest = min(
        (device.memory_total_bytes for device in devices if device.memory_total_bytes), default=None
    )
    return Machines(
        kind="gpu" if devices else "cpu",
        device=devices[0].name if devices else None,
        nodes=compute.nodes,
        ranks=family.ranks_on(len(devices)) * compute.nodes,
        device_bytes=smallest,
        host_bytes=of_cluster if in_cluster else host_bytes(),
    )


def measured_epochs(
    store: ArtifactStore, family: ModelFamily
) -> tuple[list[Measured], dict[str, tuple[float, int]]]:
    """Return what the family's epochs in the store took, and what was planned for them.

    Returns:
        The epochs of any dataset, oldest first; and by training, the operations of an epoch and the
        memory that the formulas gave.
    """
    profiles = {_partition(item): item for item in newest(store, GPU_PROFILE, family.name)}
    epochs: list[tuple[datetime, Measured]] = []
    for checkpoint in newest(store, MODEL_CHECKPOINT, family.name):
        profile = profiles.get(_partition(checkpoint))
        if profile and (measured := _measured(checkpoint, profile)):
            epochs.append((checkpoint.manifest.created_at, measured))
    plans: dict[str, tuple[float, int]] = {}
    for last in newest(store, TRAINING_PLAN, family.name):
        for stated in map(PlanAttributes.of, reversed(store.history(last.name))):
            plans[stated.training or ""] = (stated.operations_per_epoch, stated.formula_bytes)
    return [measured for _, measured in sorted(epochs, key=lambda pair: pair[0])], plans


def _measured(checkpoint: Artifact, profile: Artifact) -> Measured | None:
    """Return what an epoch took; None for the base model, and for a profile of another training."""
    trained, seen = CheckpointAttributes.of(checkpoint), ProfileAttributes.of(profile)
    if not trained.training or trained.training != seen.training or not trained.training_seconds:
        return None
    on_gpu = seen.device_kind == "gpu"
    peak_bytes = seen.peak_gpu_memory_bytes if on_gpu else seen.peak_process_memory_bytes
    return Measured(
        source=checkpoint.name,
        training=trained.training,
        device=seen.device_names[0] if on_gpu and seen.device_names else None,
        ranks=trained.ranks or 1,
        seconds=trained.training_seconds,
        peak_bytes=peak_bytes,
        joules=seen.energy_joules,
    )


def _partition(artifact: Artifact) -> str | None:
    return ArtifactAddress.parse(artifact.name).partition_key
