"""What earlier epochs of a family took, read off the store, and how far their plans were from it."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.storage.artifact import Artifact


class Measured(Config):
    """An epoch that was trained."""

    source: str = Field(description="The checkpoint's name.")
    training: str = Field(description="Digest of the training that it belongs to.")
    device: str | None = Field(description="GPU's name as NVML gives it; None on CPUs.")
    ranks: int
    seconds: float = Field(gt=0, description="Of training, saving not counted.")
    peak_bytes: int | None = Field(description="Of the fullest GPU, or of all CPU ranks together.")
    joules: float | None = Field(description="Of all GPUs over the epoch.")

    @classmethod
    def of(cls, checkpoint: Artifact, profile: Artifact) -> Self | None:
        """Reads an epoch's figures; None of the base model, which took no training."""
        trained, seen = checkpoint.manifest.attributes, profile.manifest.attributes
        if not trained.get("training_seconds"):
            return None
        names: Any = seen.get("device_names") or []
        on_gpu = seen.get("device_kind") == "gpu"
        return cls.model_validate(
            {
                "source": checkpoint.name,
                "training": trained["training"],
                "device": names[0] if on_gpu and names else None,
                "ranks": trained["ranks"],
                "seconds": trained["training_seconds"],
                "peak_bytes": seen.get(
                    "peak_gpu_memory_bytes" if on_gpu else "peak_process_memory_bytes"
                ),
                "joules": seen.get("energy_joules"),
            }
        )


class Calibration(Config):
    """How reality and formulas compared in an epoch.

    Only the plan of the same training tells what the formulas had said of it.
    """

    source: str = Field(description="The epoch's checkpoint.")
    device: str | None = Field(description="GPU's name; None on CPUs.")
    ranks: int
    seconds_per_operation: float = Field(
        gt=0, description="Over all devices, for the operations that were planned."
    )
    memory_ratio: float | None = Field(description="Measured peak over the formulas' sum.")
    watts: float | None = Field(description="Mean of one GPU.")


def calibration(
    epochs: Iterable[Measured], plans: Mapping[str, tuple[float, int]]
) -> Calibration | None:
    """Compares the last epoch whose training has a plan.

    Args:
        epochs: From the first to the last one trained.
        plans: Digest of a training -> operations of an epoch, and bytes of what `peak_bytes`
            measures.
    """
    known = [epoch for epoch in epochs if epoch.training in plans]
    if not known:
        return None
    last = known[-1]
    operations, planned_bytes = plans[last.training]
    # Not necessarily of the last: the base model is loaded in the first.
    peaks = [
        epoch.peak_bytes for epoch in known if epoch.training == last.training and epoch.peak_bytes
    ]
    return Calibration(
        source=last.source,
        device=last.device,
        ranks=last.ranks,
        seconds_per_operation=last.seconds / operations,
        memory_ratio=max(peaks) / planned_bytes if peaks else None,
        watts=last.joules / last.seconds / last.ranks if last.joules else None,
    )
