"""Models that were scored on the same examples: which is better, and by chance or not.

Every example is its own control, so that a difference shows that the models' own intervals would
hide.
"""

from typing import NamedTuple

import numpy as np

from dolly_assets.scoring.intervals import Interval, ratio_interval

_RESAMPLES = 9_999
_SEED = 0
_BATCH_VALUES = 4_000_000  # random signs in memory at once


class Gain(NamedTuple):
    """How much better a candidate is than what it would replace.

    Attributes:
        candidate: The place of the candidate among those that were compared.
        gain: The improvement, in the score's unit; positive is better.
        interval: The 95 % interval of the gain; None where there is none.
        p_value: How often chance alone would let the best of the candidates gain as much.
    """

    candidate: int
    gain: float
    interval: Interval | None
    p_value: float


def best_gain(improvements: np.ndarray, weights: np.ndarray) -> Gain:
    """Return the candidate that gained most, and whether the best of so many is better at all.

    The test flips the sign of each example's improvement at random, the same for all candidates,
    and asks how often the largest gain of all candidates reaches the observed one. So the choice of
    the best of several epochs is part of what is tested, and epochs that resemble each other cost
    little. With one candidate and answers that are right or wrong this is McNemar's exact test, one
    sided, up to the number of random signs. (Westfall and Young, Resampling-Based Multiple Testing,
    1993, section 2.3.)

    Args:
        improvements: (candidates, examples): what each example gained, in the score's unit times
            the example's weight.
        weights: The weight of each example: ones for a mean, labelled tokens for a loss per token.
    """
    observed = improvements.sum(axis=1)
    best = int(observed.argmax())
    random = np.random.default_rng(_SEED)
    examples = improvements.shape[1]
    batch = max(1, _BATCH_VALUES // examples)
    # Rounding must not separate sums of the same values in another order.
    threshold = observed[best] - 1e-9 * np.abs(improvements[best]).sum()
    reached, left = 0, _RESAMPLES
    while left > 0:
        signs = random.integers(0, 2, (min(batch, left), examples), dtype=np.int8) * 2.0 - 1.0
        reached += int(((signs @ improvements.T).max(axis=1) >= threshold).sum())
        left -= len(signs)
    return Gain(
        candidate=best,
        gain=float(observed[best] / weights.sum()),
        interval=ratio_interval(improvements[best], weights),
        p_value=(reached + 1) / (_RESAMPLES + 1),
    )
