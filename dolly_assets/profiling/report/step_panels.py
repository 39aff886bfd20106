"""The steps of a span as what a report draws: curves by rank, a stack of their phases, and bands.

Knows nothing of charts, and nothing of samples.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dolly_assets.profiling.analysis.panels import Panel, Stack
from dolly_assets.profiling.analysis.step_figures import STEP_PHASE_NAMES, STEP_PHASES
from dolly_assets.profiling.series.phases import Phase

Numbers = NDArray[np.float64]


def step_phases(steps: pa.Table, shortest_seconds: float, most: int) -> list[Phase]:
    """Return the phases of rank 0's steps; those too short to be visible are left out.

    A step of several micro-batches alternates between forward and backward: here each is one
    piece, in the order of `STEP_PHASES`.

    Args:
        steps: With the columns of `steplog.RANK_STEP_SCHEMA`.
        shortest_seconds: A phase that is shorter is left out.
        most: The most phases to return; the longest are kept.
    """
    steps = steps.filter(pc.field("rank") == 0)
    start = steps["started_at"].to_numpy()
    number = steps["step"].to_numpy()
    found: list[tuple[float, float, str, int]] = []
    for phase in STEP_PHASES:
        seconds = steps[f"{phase}_seconds"].to_numpy()
        seen = np.flatnonzero(seconds >= shortest_seconds)
        names = [STEP_PHASE_NAMES[phase]] * len(seen)
        found += zip(
            start[seen].tolist(), seconds[seen].tolist(), names, number[seen].tolist(), strict=True
        )
        start = start + seconds
    found.sort(key=lambda item: -item[1])
    return [
        Phase(name, start, start + seconds, {"step": step})
        for start, seconds, name, step in sorted(found[:most])
    ]


def step_panel(steps: pa.Table) -> tuple[Panel, Numbers]:
    """Return how long steps took on each rank, and when they ended.

    The times are UTC epoch seconds, shape (steps,). Ranks end a step together, so they share the
    times of the first one; where a rank lacks steps, all are shortened to it.
    """
    columns = {name: steps[name].to_numpy() for name in ("rank", "started_at", "ended_at")}
    lasted = columns["ended_at"] - columns["started_at"]
    ranks = np.unique(columns["rank"])
    by_rank = {f"rank {rank}": lasted[columns["rank"] == rank] for rank in ranks}
    times = columns["ended_at"][columns["rank"] == ranks[0]]
    count = min(len(times), *map(len, by_rank.values()))
    curves = {label: values[:count] for label, values in by_rank.items()}
    return Panel("Step time", "s, by rank", curves, alike=True), times[:count]


def step_stack(steps: pa.Table) -> Stack:
    """Return the phases of the steps, as the mean over the ranks."""
    _, times = step_panel(steps)
    ranks, rank = np.unique(steps["rank"].to_numpy()), steps["rank"].to_numpy()
    curves = {}
    for phase in STEP_PHASES:
        seconds = steps[f"{phase}_seconds"].to_numpy()
        curves[STEP_PHASE_NAMES[phase]] = np.mean(
            [seconds[rank == each][: len(times)] for each in ranks], axis=0
        )
    return Stack("Step phases, s (mean of the ranks)", times, curves)
