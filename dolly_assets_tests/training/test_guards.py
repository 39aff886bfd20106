"""Guards over the steps of a training that goes well, jumps, overflows or breaks."""

import random

import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.loop.guards import OVERFLOWS_IN_A_ROW, Guards, GuardSettings


def judged(guards: Guards, losses: list[float], *, overflowed: bool = False) -> list[str]:
    found = [
        guards.check(number, loss, epoch=2, overflowed=overflowed)
        for number, loss in enumerate(losses, start=1)
    ]
    return [text for text in found if text]


def falling(count: int) -> list[float]:
    """A usual training: it falls, with noise of a tenth."""
    generator = random.Random(3)
    return [7 * 0.97**number + 0.3 + generator.gauss(0, 0.1) for number in range(count)]


def test_a_training_that_goes_well_is_left_alone() -> None:
    assert judged(Guards(GuardSettings()), falling(300)) == []


def test_a_loss_that_jumps_is_reported_once_with_its_step_and_values() -> None:
    [text] = judged(Guards(GuardSettings()), [*falling(100), 9.0, 9.5, 10.0])
    assert text.startswith(
        "the loss of epoch 2 jumped to 9 at step 101; the median of the last steps is "
    )


def test_a_loss_that_jumps_ends_the_training_where_that_is_asked_for() -> None:
    with pytest.raises(
        TrainingError, match=r"jumped to 9 at step 101; .*check the examples of this step"
    ):
        judged(Guards(GuardSettings(on_spike="stop")), [*falling(100), 9.0])


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(loss: float) -> None:
    with pytest.raises(
        TrainingError, match=rf"loss of epoch 2 became {loss} at step 2: lower recipe.learning_rate"
    ):
        judged(Guards(GuardSettings()), [1.0, loss])


def test_gradients_that_overflow_for_long_end_the_training() -> None:
    guards = Guards(GuardSettings())
    judged(guards, [1.0] * (OVERFLOWS_IN_A_ROW - 1), overflowed=True)
    judged(guards, [1.0])
    with pytest.raises(TrainingError, match=f"overflowed in {OVERFLOWS_IN_A_ROW} steps in a row"):
        judged(guards, [1.0] * OVERFLOWS_IN_A_ROW, overflowed=True)
