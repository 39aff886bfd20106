"""Intervals of scores: how far they would move, had other examples of the kind been held out."""

from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
_RESAMPLES = 2_000
_SEED = 0
_BATCH_VALUES = 4_000_000  # resampled values in memory at once


class Interval(NamedTuple):
    """The bounds of a score, in its unit."""

    low: float
    high: float


def share_interval(right: np.ndarray) -> Interval | None:
    """Return Wilson's interval of a share, which holds at 0 and 1 too, unlike the bootstrap's.

    https://www.jstor.org/stable/2276774

    Args:
        right: A bool per example.
    """
    from scipy.stats import binomtest

    if not len(right):
        return None
    bounds = binomtest(int(right.sum()), len(right)).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(bounds.low), float(bounds.high))


def share_difference_interval(new: np.ndarray, old: np.ndarray) -> Interval | None:
    """Return Newcombe's interval of the difference between two shares of different examples.

    It combines Wilson's intervals of the two, so it holds at 0 and 1 too (Newcombe, "Interval
    estimation for the difference between independent proportions", 1998, method 10).

    Args:
        new: A bool per example.
        old: A bool per example, of which the share is subtracted.
    """
    of_new, of_old = share_interval(new), share_interval(old)
    if of_new is None or of_old is None:
        return None
    more, less = float(new.mean()), float(old.mean())
    return Interval(
        more - less - float(np.hypot(more - of_new.low, of_old.high - less)),
        more - less + float(np.hypot(of_new.high - more, less - of_old.low)),
    )


def ratio_interval(parts: np.ndarray, weights: np.ndarray) -> Interval | None:
    """Return the interval of sum(parts) / sum(weights), by bootstrap over examples.

    Equal input gives an equal interval.

    Args:
        parts: A value per example, such as its loss summed over its labelled tokens.
        weights: What it is divided by, such as the number of these tokens; ones for a mean.

    Returns:
        The percentile interval; None with fewer than two examples, or if a part is not finite.
    """
    from scipy.stats import bootstrap

    if len(parts) < 2 or not np.isfinite(parts).all():
        return None

    def ratio(parts: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
        return parts.sum(axis=axis) / weights.sum(axis=axis)

    interval = bootstrap(
        (parts, weights),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, _BATCH_VALUES // len(parts)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=_SEED,
    ).confidence_interval
    return Interval(float(interval.low), float(interval.high))
