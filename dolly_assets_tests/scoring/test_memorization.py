"""The difference between two shares, and when it counts as more than a limit."""

import numpy as np
import pytest

from dolly_assets.scoring.intervals import share_difference_interval
from dolly_assets.scoring.memorization import MEMORIZATION_SCHEMA, exceeds, memorization


def shares(right: int, of: int) -> np.ndarray:
    return np.arange(of) < right


@pytest.mark.parametrize(
    ("new", "old", "low", "high"),
    [  # Newcombe, 1998, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0000),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(
    new: tuple[int, int], old: tuple[int, int], low: float, high: float
) -> None:
    interval = share_difference_interval(shares(*new), shares(*old))
    assert interval == pytest.approx((low, high), abs=1e-4)


def test_a_limit_is_exceeded_if_the_whole_interval_is_above_it() -> None:
    assert exceeds(0.15, (0.05, 0.3), 0.1) is None
    assert exceeds(0.15, None, 0.1) is None
    sentence = exceeds(0.3, (0.15, 0.4), 0.1)
    assert sentence
    assert "30.0 % more" in sentence
    assert "at most 10.0 % is allowed (champion.memorization_limit)" in sentence


def test_nothing_is_measured_without_records() -> None:
    found = memorization(MEMORIZATION_SCHEMA.empty_table())
    assert (found.training.value, found.above.value) == (None, None)
    assert found.sentence.startswith("No training record")
