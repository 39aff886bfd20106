"""Times in which the devices did little, each with the phases that ran meanwhile.

Knows one curve and the phases, not where they come from.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.profiling.series.phases import Phase
from dolly_assets.profiling.series.samples import Series

BELOW_SHARE = 0.5  # of the median
SHORTEST_SAMPLES = 2
MOST_SPANS = 12
UNKNOWN = "no phase marked"


class IdleSpan(Config):
    """A time in which the devices did less than half of what they usually do."""

    started_at: float = Field(description="UTC epoch seconds.")
    ended_at: float = Field(description="UTC epoch seconds.")
    mean_percent: float = Field(description="Mean utilization meanwhile.")
    phase: str = Field(description="Phases that ran meanwhile, the shortest first.")

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.ended_at - self.started_at


def find_idle_spans(
    time_seconds: Series, percent: Series, phases: Sequence[Phase]
) -> list[IdleSpan]:
    """Return the longest idle spans of a curve, in order of time."""
    if len(percent) < SHORTEST_SAMPLES or np.isnan(percent).all():
        return []
    low = np.nan_to_num(percent, nan=np.inf) < BELOW_SHARE * np.nanmedian(percent)
    edges = np.flatnonzero(np.diff(low.astype(np.int8), prepend=0, append=0))
    spans = [
        (first, last) for first, last in edges.reshape(-1, 2) if last - first >= SHORTEST_SAMPLES
    ]
    longest = sorted(spans, key=lambda span: time_seconds[span[0]] - time_seconds[span[1] - 1])[
        :MOST_SPANS
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
    """Return the names of the phases that overlap a span.

    Phases nest ("train" contains all of its steps): the shorter ones are more specific.
    """
    overlap: dict[str, float] = defaultdict(float)
    length: dict[str, float] = defaultdict(float)
    for phase in phases:
        shared = min(phase.ended_at, end) - max(phase.started_at, start)
        if shared > 0:
            overlap[phase.name] += shared
            length[phase.name] = max(length[phase.name], phase.seconds)
    relevant = {name: shared for name, shared in overlap.items() if shared >= 0.2 * (end - start)}
    names = sorted(relevant, key=lambda name: length[name])[:2]
    return ", ".join(names) or UNKNOWN
