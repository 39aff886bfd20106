"""What the steps of a span say: where their time went, rank by rank, what was computed, and how full the devices were.

Knows nothing of samples. Rank r of a machine works on its GPU r.
"""

from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from dolly_assets.core.base import Config

Numbers = NDArray[np.float64]
StepPhase = Literal["data", "forward", "backward", "optimizer", "wait"]
STEP_PHASES: tuple[StepPhase, ...] = ("data", "forward", "backward", "optimizer", "wait")
STEP_PHASE_NAMES: dict[str, str] = {
    "data": "data wait",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "wait": "wait for ranks",
}
STEP_PHASE_MEANS: dict[str, str] = {
    "data": "waits for its micro-batches",
    "forward": "forward passes and the loss",
    "backward": "backward passes, with the gradients exchanged meanwhile",
    "optimizer": "optimizer, clipping and the exchange that belongs to them",
    "wait": "waits for other ranks or for whatever else holds a step up",
}


class RankFigures(Config):
    """The steps of one rank. Seconds are means over its steps."""

    rank: int
    steps: int
    step_seconds: float
    p95_seconds: float
    seconds: dict[str, float] = Field(description="Of a step, by phase.")
    own_seconds: float = Field(
        description="Of a step in data and forward: what no other rank can hold up."
    )
    memory_peak_bytes: int | None

    def share(self, phase: StepPhase) -> float:
        """Share of a step's time, 0 to 1."""
        return self.seconds[phase] / self.step_seconds if self.step_seconds else 0.0


class StepFigures(Config):
    """All steps of a span. A step lasts until its last rank is through."""

    steps: int
    first_step: int
    last_step: int
    seconds: float = Field(description="Spent in steps; between them a checkpoint is saved.")
    step_seconds: float = Field(description="Mean of a step.")
    p50_seconds: float
    p95_seconds: float
    max_seconds: float
    shares: dict[str, float] = Field(description="Of the ranks' step time, by phase, 0 to 1.")
    ranks: list[RankFigures]
    labelled_tokens: int
    prompt_tokens: int = Field(description="Trained on, and without a label.")
    padding_tokens: int
    tokens_per_second: float = Field(
        description="Of examples, padding not counted, while stepping."
    )
    flops_per_second: float = Field(
        description="That the model asks for, of all ranks, while stepping."
    )
    mfu: float | None = Field(
        description="Model FLOPs utilization: their share of the devices' peak."
    )


def step_figures(steps: pa.Table, peak_flops: float | None) -> StepFigures | None:
    """The figures of a table of steps (`dolly_assets.profiling.series.steplog.STEP_SCHEMA`); None without any.

    `peak_flops` is that of one rank's device, in floating-point operations per second. MFU as in
    PaLM (https://arxiv.org/abs/2204.02311, appendix B).
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
    flops_per_second = float(columns["flops"].sum()) / max(seconds, 1e-9)
    return StepFigures(
        steps=len(lasted),
        first_step=int(columns["step"].min()),
        last_step=int(columns["step"].max()),
        seconds=seconds,
        step_seconds=float(lasted.mean()),
        p50_seconds=float(np.percentile(lasted, 50)),
        p95_seconds=float(np.percentile(lasted, 95)),
        max_seconds=float(lasted.max()),
        shares={
            phase: float(columns[f"{phase}_seconds"].sum()) / max(rank_seconds, 1e-9)
            for phase in STEP_PHASES
        },
        ranks=ranks,
        labelled_tokens=labelled,
        prompt_tokens=real - labelled,
        padding_tokens=processed - real,
        tokens_per_second=real / max(seconds, 1e-9),
        flops_per_second=flops_per_second,
        mfu=flops_per_second / (peak_flops * len(ranks)) if peak_flops else None,
    )


def step_seconds(steps: pa.Table) -> tuple[Numbers, Numbers]:
    """When each step ended (UTC epoch seconds) and how long it took, from its first rank's start to its last one's end.

    Shape (steps,) each, by step.
    """
    order = np.argsort(steps["step"].to_numpy(), kind="stable")
    number, started, ended = (
        steps[name].to_numpy()[order] for name in ("step", "started_at", "ended_at")
    )
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    return np.maximum.reduceat(ended, starts), np.maximum.reduceat(
        ended, starts
    ) - np.minimum.reduceat(started, starts)


def _rank_figures(columns: dict[str, NDArray], rank: int) -> RankFigures:
    of_rank = columns["rank"] == rank
    lasted = (columns["ended_at"] - columns["started_at"])[of_rank]
    seconds = {phase: float(columns[f"{phase}_seconds"][of_rank].mean()) for phase in STEP_PHASES}
    memory = np.asarray(columns["memory_peak_bytes"], dtype=np.float64)[of_rank]
    return RankFigures(
        rank=rank,
        steps=len(lasted),
        step_seconds=float(lasted.mean()),
        p95_seconds=float(np.percentile(lasted, 95)),
        seconds=seconds,
        own_seconds=seconds["data"] + seconds["forward"],
        memory_peak_bytes=None if np.isnan(memory).all() else int(np.nanmax(memory)),
    )
