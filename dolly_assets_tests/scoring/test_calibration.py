"""The expected calibration error of models whose calibration is known."""

import numpy as np
import pytest

from dolly_assets.scoring.calibration import Calibration


@pytest.mark.parametrize(
    ("confidence", "accuracy", "error"),
    [(0.75, 0.75, 0.0), (1.0, 0.5, 0.5), (0.1, 0.9, 0.8), (0.0, 0.0, 0.0)],
)
def test_the_error_is_the_distance_of_confidence_and_accuracy(
    confidence: float, accuracy: float, error: float
) -> None:
    calibration = Calibration()
    for _ in range(2):  # in batches
        calibration.add(np.full(100, confidence), np.arange(100) < accuracy * 100)
    assert calibration.error == pytest.approx(error)


def test_bins_are_weighted_by_their_predictions() -> None:
    calibration = Calibration()
    calibration.add(np.array([1.0, 1.0, 1.0, 0.2]), np.array([True, True, True, True]))
    assert calibration.error == pytest.approx(0.2)


def test_without_predictions_there_is_none() -> None:
    assert Calibration().error is None
