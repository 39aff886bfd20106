"""What earlier epochs of a family took, beside what was planned for them."""

from collections.abc import Iterable, Mapping

from pydantic import Field

from dolly_assets.core.base import Config


class Measured(Config):
    """What an epoch took that was trained."""

    source: str = Field(description="The name of its checkpoint.")
    training: str = Field(description="Digest of the training that it belongs to.")
    device: str | None = Field(description="The GPU's name as NVML reports it; None on CPUs.")
    ranks: int = Field(description="Number of ranks that trained it.")
    seconds: float = Field(gt=0, description="Training time, without saving.")
    peak_bytes: int | None = Field(
        description="Peak memory of the fullest GPU, or of all CPU ranks together."
    )
    joules: float | None = Field(description="Energy of all GPUs over the epoch.")


class Calibration(Config):
    """Measurements of an epoch in relation to the formulas of its plan.

    Only the plan of the same training states what the formulas predicted for the epoch.
    """

    source: str = Field(description="The name of the epoch's checkpoint.")
    device: str | None = Field(description="The GPU's name; None on CPUs.")
    ranks: int = Field(description="Number of ranks that trained it.")
    seconds_per_operation: float = Field(
        gt=0, description="Time per planned operation, with all devices together."
    )
    memory_ratio: float | None = Field(
        description="Measured peak memory, divided by the sum of the formulas."
    )
    watts: float | None = Field(description="Mean power of one GPU.")


def calibration(
    epochs: Iterable[Measured], plans: Mapping[str, tuple[float, int]]
) -> Calibration | None:
    """Compare the last epoch whose training has a plan; None if there is no such epoch.

    Args:
        epochs: Measured epochs, in the order in which they were trained.
        plans: By the digest of a training, the planned operations of an epoch, and the planned
            bytes of what `peak_bytes` measures.
    """
    known = [epoch for epoch in epochs if epoch.training in plans]
    if not known:
        return None
    last = known[-1]
    operations, planned_bytes = plans[last.training]
    # The peak need not be in the last epoch: the base model is loaded in the first.
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
