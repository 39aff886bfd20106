"""Steps whose loss is far above that of the steps before them."""

import statistics
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

WINDOW_STEPS = 64  # steps that a loss is compared with
LEAST_STEPS = 16  # before that there is too little to compare with
SPIKE_DEVIATIONS = 8.0
# The standard deviation of a normal distribution, in median absolute deviations (Huber, Robust
# Statistics, 1981).
DEVIATION_PER_MAD = 1.4826
# Where the loss hardly varies every step would be a spike: the deviation counts as at least this
# share of the median.
LEAST_DEVIATION = 0.05


class Spike(NamedTuple):
    """A step whose loss jumped.

    Attributes:
        loss: Its loss.
        usual: The median of the last steps.
        limit: Up to which loss it would have been normal.
    """

    loss: float
    usual: float
    limit: float


class RecentLosses:
    """The losses of the last steps, which the next one is compared with."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW_STEPS)

    def add(self, loss: float) -> Spike | None:
        """Add the loss of the next step; return what it was compared with if it is a spike."""
        limit = self._limit()
        self._losses.append(loss)
        if limit is None or loss <= limit:
            return None
        return Spike(loss, statistics.median(self._losses), limit)

    def _limit(self) -> float | None:
        """Return the loss above which a step is a spike; None while there are too few steps."""
        if len(self._losses) < LEAST_STEPS:
            return None
        median = statistics.median(self._losses)
        mad = statistics.median(abs(loss - median) for loss in self._losses)
        deviation = max(DEVIATION_PER_MAD * mad, LEAST_DEVIATION * median)
        return median + SPIKE_DEVIATIONS * deviation


def spikes(losses: Iterable[tuple[int, float]]) -> dict[int, Spike]:
    """Return the spikes among the steps of a training, which come in order with their losses."""
    recent = RecentLosses()
    found = ((step, recent.add(loss)) for step, loss in losses)
    return {step: spike for step, spike in found if spike}
