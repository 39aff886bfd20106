"""Dips of the main curve, each with the name of what ran meanwhile."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.profiling.series.phases import Phase
from dolly_assets.profiling.series.samples import Series

BELOW_SHARE = 0.5  # of the median
SHORTEST_SAMPLES = 2
MOST_DIPS = 12
UNKNOWN = "no phase marked"


class IdleSpan(Config):
    """A stretch in which the devices did less than half of what they usually do."""

    started_at: float = Field(description="UTC epoch seconds.")
    ended_at: float
    mean_percent: float
    phase: str = Field(description="The phases that ran then, the longest first.")

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.ended_at - self.started_at


def find_idle_spans(
    time_seconds: Series, percent: Series, phases: Sequence[Phase]
) -> list[IdleSpan]:
    """The longest dips of a curve, in order of time."""
    if len(percent) < SHORTEST_SAMPLES or np.isnan(percent).all():
        return []
    low = np.nan_to_num(percent, nan=np.inf) < BELOW_SHARE * np.nanmedian(percent)
    edges = np.flatnonzero(np.diff(low.astype(np.int8), prepend=0, append=0))
    spans = [
        (first, last) for first, last in edges.reshape(-1, 2) if last - first >= SHORTEST_SAMPLES
    ]
    longest = sorted(spans, key=lambda span: time_seconds[span[0]] - time_seconds[span[1] - 1])[
        :MOST_DIPS
    ]
    return [
        IdleSpan(
            started_at=start,
            ended_at=end,
            mean_percent=float(np.nanmean(percent[first:last])),
            phase=_names(phases, start, end),
        )
        for first, last in sorted(longest)
        for start, end in [(float(time_seconds[first]), float(time_seconds[last - 1]))]
    ]


def _names(phases: Sequence[Phase], start: float, end: float) -> str:
    """What overlaps a span.

    Phases lie over each other ("train" has all of its steps): the shorter ones say more.
    """
    overlap: dict[str, float] = defaultdict(float)
    length: dict[str, float] = defaultdict(float)
    for phase in phases:
        ended_at = phase.ended_at if phase.ended_at is not None else end
        shared = min(ended_at, end) - max(phase.started_at, start)
        if shared > 0:
            overlap[phase.name] += shared
            length[phase.name] = max(length[phase.name], ended_at - phase.started_at)
    telling = {name: shared for name, shared in overlap.items() if shared >= 0.2 * (end - start)}
    names = sorted(telling, key=lambda name: length[name])[:2]
    return ", ".join(names) or UNKNOWN
