"""Models that were scored on the same examples: which is better, and by chance or not.

Every example is its own control, so that a difference shows that the models' own intervals would
hide.
"""

import functools
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
    """Return the candidate that gained most, tested as the best of all candidates.

    Args:
        improvements: (candidates, examples): what each example gained, in the score's unit times
            the example's weight.
        weights: The weight of each example: ones for a mean, labelled tokens for a loss per token.
    """
    best = int(improvements.sum(axis=1).argmax())
    return _gain(best, improvements, weights, float(p_values(improvements)[best]))


def gains(improvements: np.ndarray, weights: np.ndarray) -> list[Gain]:
    """Return the gain of every candidate, each tested as the best of all candidates.

    Args:
        improvements: As in `best_gain`.
        weights: As in `best_gain`.
    """
    chances = p_values(improvements)
    return [
        _gain(place, improvements, weights, float(chance)) for place, chance in enumerate(chances)
    ]


def p_values(improvements: np.ndarray) -> np.ndarray:
    """Return for each candidate how often chance alone would let the best of all gain as much.

    The test flips the sign of each example's improvement at random, the same for all candidates,
    and counts how often the largest gain of all candidates reaches the observed one, each in units
    of its own standard deviation. So the choice of the best of several epochs is part of what is
    tested, epochs that resemble each other cost little, and an epoch whose examples changed wildly,
    as losses do in overfitting, does not hide the steady gain of another. (The single-step maxT
    procedure of Westfall and Young, Resampling-Based Multiple Testing, 1993, section 2.3.)

    One candidate whose examples changed by equal amounts, as answers that are right or wrong do,
    needs no random signs: its gain is binomial, and this is McNemar's exact test, one-sided.

    Args:
        improvements: As in `best_gain`.
    """
    different, places = np.unique(improvements, axis=0, return_inverse=True)
    exact = _exact(different[0]) if len(different) == 1 else None
    return np.full(len(improvements), exact) if exact is not None else _by_signs(different)[places]


def _exact(improvements: np.ndarray) -> float | None:
    """Return the p-value of one candidate by the binomial distribution, where that is exact."""
    from scipy.stats import binom

    changed = improvements[improvements != 0]
    if len(changed) and np.ptp(np.abs(changed)) > 0:
        return None
    return float(binom.sf((changed > 0).sum() - 1, len(changed), 0.5))


def _by_signs(improvements: np.ndarray) -> np.ndarray:
    # Signs do not change the sum of squares: the deviation is the same for all of them.
    deviations = np.sqrt((improvements**2).sum(axis=1, keepdims=True))
    improvements = np.divide(
        improvements, deviations, out=np.zeros_like(improvements, float), where=deviations > 0
    )
    observed = improvements.sum(axis=1)
    # Rounding must not separate sums of the same values in another order.
    thresholds = observed - 1e-9 * np.abs(improvements).sum(axis=1)
    examples = improvements.shape[1]
    batch = min(_RESAMPLES, max(1, _BATCH_VALUES // examples))
    reached = np.zeros(len(improvements))
    for first in range(0, _RESAMPLES, batch):
        signs = _signs(first, min(batch, _RESAMPLES - first), examples)
        largest = np.sort((signs @ improvements.T).max(axis=1))
        reached += len(largest) - np.searchsorted(largest, thresholds)
    return (reached + 1) / (_RESAMPLES + 1)


@functools.lru_cache(maxsize=1)
def _signs(first: int, count: int, examples: int) -> np.ndarray:
    """Return random signs, the same for the same arguments."""
    random = np.random.default_rng([_SEED, first])
    return random.integers(0, 2, (count, examples), dtype=np.int8) * 2.0 - 1.0


def _gain(candidate: int, improvements: np.ndarray, weights: np.ndarray, p_value: float) -> Gain:
    gained = improvements[candidate]
    return Gain(
        candidate=candidate,
        gain=float(gained.sum() / weights.sum()),
        interval=ratio_interval(gained, weights),
        p_value=p_value,
    )
