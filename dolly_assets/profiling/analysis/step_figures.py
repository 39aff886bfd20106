"""The steps of a span in numbers: where their time went, rank by rank, and what was computed.

Knows nothing of samples. Rank r of a machine works on its GPU r.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.profiling.series.phases import Phase, seconds_of
from dolly_assets.profiling.series.steplog import STEP_PHASES, StepPhase
from dolly_assets.profiling.series.throughput import flops_utilization, tokens_per_second

Numbers = NDArray[np.float64]
STEP_PHASE_NAMES: dict[str, str] = {
    "data": "data wait",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "wait": "wait for ranks",
}
STEP_PHASE_MEANS: dict[str, str] = {
    "data": "waiting for micro-batches",
    "forward": "forward passes and the loss",
    "backward": "backward passes, with the gradients that are exchanged meanwhile",
    "optimizer": "optimizer, clipping and the exchange that belongs to them",
    "wait": "waiting for other ranks, or for whatever else delays a step",
}


class EpochTotals(Config):
    """What the training itself counted of an epoch, in all processes that trained a part of it.

    A profile takes its figures from here, so that they are those of the epoch's checkpoint.
    """

    real_tokens: int = Field(description="Tokens of the examples trained on, of all ranks.")
    flops: float = Field(description="Floating-point operations of the model, of all ranks.")
    training_seconds: float = Field(description="Training time, without saving.")
    saving_seconds: float = Field(description="Time in which the state was saved.")


class RankFigures(Config):
    """The steps of one rank. Seconds are means over its steps."""

    rank: int = Field(description="Global rank.")
    steps: int = Field(description="Number of its steps.")
    step_seconds: float = Field(description="Mean duration of a step.")
    p95_seconds: float = Field(description="95th percentile of the durations.")
    seconds: dict[str, float] = Field(description="Seconds of a step by phase.")
    own_seconds: float = Field(
        description="Seconds of a step in data and forward: what no other rank can delay."
    )
    peak_rank_memory_bytes: int | None = Field(
        description="Most memory that the process held: of its GPU, or resident on a CPU."
    )

    def share(self, phase: StepPhase) -> float:
        """Return a phase's share of a step's time, 0 to 1."""
        return self.seconds[phase] / self.step_seconds if self.step_seconds else 0.0


class StepFigures(Config):
    """All steps of a span. A step lasts until its last rank has finished it."""

    steps: int = Field(description="Number of steps in the span.")
    first_step: int = Field(description="Number of the first step, counted from 1.")
    last_step: int = Field(description="Number of the last step.")
    seconds: float = Field(description="Time spent in steps.")
    training_seconds: float = Field(
        description="Training time: from the first step's start to the last one's end, "
        "without saving."
    )
    step_seconds: float = Field(description="Mean duration of a step.")
    p95_seconds: float = Field(description="95th percentile of the durations.")
    shares: dict[str, float] = Field(description="Share of the ranks' step time by phase, 0 to 1.")
    ranks: list[RankFigures] = Field(description="The same by rank.")
    labelled_tokens: int = Field(description="Tokens that the loss counts.")
    prompt_tokens: int = Field(description="Tokens that are trained on without a label.")
    padding_tokens: int = Field(description="Tokens that only fill batches.")
    tokens_per_second: float = Field(
        description="Tokens of examples, without padding, per second of training time."
    )
    tokens_per_second_while_stepping: float = Field(
        description="The same per second spent in steps: what happens between steps not counted."
    )
    flops_per_second: float | None = Field(
        description="Floating-point operations of the model, of all ranks, per second of "
        "training time; None where they cannot be counted."
    )
    mfu: float | None = Field(
        description="Model FLOPs utilization: the share of the devices' peak, over training time."
    )


def step_figures(
    steps: pa.Table,
    phases: Sequence[Phase],
    peak_flops: float | None,
    totals: EpochTotals | None = None,
) -> StepFigures | None:
    """Return the figures of the steps of all ranks in a span; None without any.

    Args:
        steps: With the columns of `steplog.RANK_STEP_SCHEMA`.
        phases: What was marked in the span; "save" is no training time.
        peak_flops: Of one rank's device, in operations per second; None if not known.
        totals: What the training counted of the whole epoch; else the span is counted.
    """
    if not steps.num_rows:
        return None
    columns = {name: steps[name].to_numpy() for name in steps.column_names}
    _, lasted = step_seconds(steps)
    ranks = [_rank_figures(columns, int(rank)) for rank in np.unique(columns["rank"])]
    seconds = float(lasted.sum())
    rank_seconds = sum(float(columns[f"{phase}_seconds"].sum()) for phase in STEP_PHASES)
    real, processed, labelled = (
        int(columns[f"{kind}_tokens"].sum()) for kind in ("real", "processed", "labelled")
    )
    counted = totals or EpochTotals(
        real_tokens=real,
        flops=float(columns["flops"].sum()),
        training_seconds=_training_seconds(columns, phases),
        saving_seconds=seconds_of(phases, "save"),
    )
    return StepFigures(
        steps=len(lasted),
        first_step=int(columns["step"].min()),
        last_step=int(columns["step"].max()),
        seconds=seconds,
        training_seconds=counted.training_seconds,
        step_seconds=float(lasted.mean()),
        p95_seconds=float(np.percentile(lasted, 95)),
        shares={
            phase: float(columns[f"{phase}_seconds"].sum()) / max(rank_seconds, 1e-9)
            for phase in STEP_PHASES
        },
        ranks=ranks,
        labelled_tokens=labelled,
        prompt_tokens=real - labelled,
        padding_tokens=processed - real,
        tokens_per_second=tokens_per_second(counted.real_tokens, counted.training_seconds),
        tokens_per_second_while_stepping=tokens_per_second(real, seconds),
        flops_per_second=counted.flops / max(counted.training_seconds, 1e-9) or None,
        mfu=flops_utilization(counted.flops, counted.training_seconds * len(ranks), peak_flops)
        if peak_flops and counted.flops
        else None,
    )


def _training_seconds(columns: dict[str, NDArray], phases: Sequence[Phase]) -> float:
    """Return the time from the first step to the last, without the saves between them."""
    started_at, ended_at = float(columns["started_at"].min()), float(columns["ended_at"].max())
    saved = sum(
        max(0.0, min(phase.ended_at, ended_at) - max(phase.started_at, started_at))
        for phase in phases
        if phase.name == "save"
    )
    return ended_at - started_at - saved


def step_seconds(steps: pa.Table) -> tuple[Numbers, Numbers]:
    """Return when each step ended (UTC epoch seconds) and how long it took, by step.

    A step takes from its first rank's start to its last one's end. Shape (steps,) each.
    """
    order = np.argsort(steps["step"].to_numpy(), kind="stable")
    number, started, ended = (
        steps[name].to_numpy()[order] for name in ("step", "started_at", "ended_at")
    )
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    last = np.maximum.reduceat(ended, starts)
    return last, last - np.minimum.reduceat(started, starts)


def _rank_figures(columns: dict[str, NDArray], rank: int) -> RankFigures:
    of_rank = columns["rank"] == rank
    lasted = (columns["ended_at"] - columns["started_at"])[of_rank]
    seconds = {phase: float(columns[f"{phase}_seconds"][of_rank].mean()) for phase in STEP_PHASES}
    memory = np.asarray(columns["peak_rank_memory_bytes"], dtype=np.float64)[of_rank]
    return RankFigures(
        rank=rank,
        steps=len(lasted),
        step_seconds=float(lasted.mean()),
        p95_seconds=float(np.percentile(lasted, 95)),
        seconds=seconds,
        own_seconds=seconds["data"] + seconds["forward"],
        peak_rank_memory_bytes=None if np.isnan(memory).all() else int(np.nanmax(memory)),
    )
