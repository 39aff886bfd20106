"""Plans a training of a family from what the store holds: the assets' and the command line's door to `planning`."""

from dataclasses import dataclass
from datetime import datetime

from dolly_assets.core.errors import TrainingError
from dolly_assets.family import ModelFamily
from dolly_assets.hardware.machine import Machines, host_bytes, named_gpus
from dolly_assets.hardware.visible_gpus import visible_devices
from dolly_assets.launchers.local import ranks_for
from dolly_assets.planning.calibration import Measured, calibration
from dolly_assets.planning.changes import Change, changes_that_fit
from dolly_assets.planning.model_shape import ModelShape
from dolly_assets.planning.plan import Plan, PlanRequest, plan
from dolly_assets.planning.prices import Prices
from dolly_assets.planning.rows import TrainingRows
from dolly_assets.planning.text import verdict
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import GPU_PROFILE, MODEL_CHECKPOINT, TRAINING_PLAN, AssetKind
from dolly_assets.registry.queries import names
from dolly_assets.registry.training_state import Training
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.flow import in_parallel
from dolly_assets.tokenization.tokenized_dataset import TRAIN_FILE


@dataclass(frozen=True)
class Estimate:
    """A plan, and what would make it fit if it does not."""

    plan: Plan
    changes: tuple[Change, ...]

    @property
    def verdict(self) -> str:
        """Whether it fits, in a sentence."""
        return verdict(self.plan, self.changes)

    def refuse_what_cannot_fit(self) -> None:
        """Raises TrainingError with the changes that would help."""
        if self.plan.fits is False:
            raise TrainingError(self.verdict)


def estimate_training(
    store: ArtifactStore, training: Training, prices: Prices, *, epochs: int
) -> Estimate:
    """Plans a training for the machines that its family names, or for this one.

    Raises:
        ConfigurationError: The family names a device that is not known.
        TrainingError: The ranks cannot share the global batch.
        BaseModelError: The base model's configuration does not say how large it is.
    """
    job = job_of(store, training, prices, epochs=epochs)
    made = plan(job)
    return Estimate(made, changes_that_fit(job) if made.fits is False else ())


def job_of(store: ArtifactStore, training: Training, prices: Prices, *, epochs: int) -> PlanRequest:
    """What is planned: the training on its machines, with what the store knows of earlier epochs."""
    compute = training.family.compute
    if compute.carbon_g_per_kwh is not None:
        prices = prices.model_copy(update={"carbon_g_per_kwh": compute.carbon_g_per_kwh})
    return PlanRequest(
        recipe=training.family.recipe,
        shape=ModelShape.of_artifact(training.base_model),
        data=TrainingRows.of(training.tokenized_dataset.read_table(TRAIN_FILE)),
        machines=machines_for(training.family),
        epochs=epochs,
        prices=prices,
        gpu_hour_usd=compute.gpu_hour_usd,
        calibration=calibration(*history(store, training.family)),
    )


def machines_for(family: ModelFamily) -> Machines:
    """The machines that a family names, else the GPUs of this one, else its CPU; unknown GPUs if it asks for more."""
    compute = family.compute
    of_cluster = int(compute.memory_gib * 2**30)
    if compute.device:
        return named_gpus(
            compute.device, gpus=compute.gpus, nodes=compute.nodes, host_bytes=of_cluster
        )
    devices = visible_devices()
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
        ranks=ranks_for(family, len(devices)) * compute.nodes,
        device_bytes=smallest,
        host_bytes=host_bytes(),
    )


def history(
    store: ArtifactStore, family: ModelFamily
) -> tuple[list[Measured], dict[str, tuple[float, int]]]:
    """What the family's epochs in the store took, of any dataset, oldest first, and their trainings' plans."""
    checkpoints = _all(store, family, MODEL_CHECKPOINT)
    profiles = {_partition(item): item for item in _all(store, family, GPU_PROFILE)}
    epochs: list[tuple[datetime, Measured]] = []
    for checkpoint in checkpoints:
        profile = profiles.get(_partition(checkpoint))
        is_same = (
            profile
            and profile.manifest.attributes["training"]
            == checkpoint.manifest.attributes["training"]
        )
        if profile and is_same and (measured := Measured.of(checkpoint, profile)):
            epochs.append((checkpoint.manifest.created_at, measured))
    plans = {
        str(attributes["training"]): (
            float(str(attributes["operations_per_epoch"])),
            int(str(attributes["formula_bytes"])),
        )
        for name in names(store, TRAINING_PLAN, family.name)
        for attributes in (item.manifest.attributes for item in reversed(store.history(name)))
    }
    return [measured for _, measured in sorted(epochs, key=lambda pair: pair[0])], plans


def _partition(artifact: Artifact) -> str | None:
    return ArtifactAddress.parse(artifact.name).partition_key


def _all(store: ArtifactStore, family: ModelFamily, kind: AssetKind) -> list[Artifact]:
    """The newest artifact of each partition of an asset."""
    return [item for item in in_parallel(store.latest, names(store, kind, family.name)) if item]
