"""Whether a model is right as often as it is sure: the expected calibration error.

https://arxiv.org/abs/1706.04599, section 2: predictions are sorted into bins by confidence, and the
distances between mean confidence and accuracy are averaged, weighted by the predictions.
"""

import numpy as np

BINS = 15


class Calibration:
    """Sums over the predictions of labelled tokens."""

    def __init__(self) -> None:
        self._counts, self._confidence, self._right = np.zeros((3, BINS))

    def add(self, confidence: np.ndarray, is_right: np.ndarray) -> None:
        """Count predictions: the probability of the likeliest token, and whether it is the one."""
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        self._counts += np.bincount(bins, minlength=BINS)
        self._confidence += np.bincount(bins, weights=confidence, minlength=BINS)
        self._right += np.bincount(bins, weights=is_right, minlength=BINS)

    @property
    def error(self) -> float | None:
        """The expected calibration error, from 0 to 1; None without predictions."""
        total = self._counts.sum()
        return float(np.abs(self._confidence - self._right).sum() / total) if total else None
