"""Guards that look at every optimizer step: a loss that is not a number, that jumps, gradients that overflow for long.

They see figures, not tensors, and so say the same on every rank.
"""

import math
import statistics
from collections import deque
from typing import Literal

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import TrainingError
from dolly_assets.training.loop.steps import Step

WINDOW_STEPS = 64  # what counts as the loss so far
LEAST_STEPS = 16  # before that there is nothing to compare with
SPIKE_DEVIATIONS = 8.0
# The standard deviation of a normal distribution, in median absolute deviations (Huber, Robust
# Statistics, 1981).
DEVIATION_PER_MAD = 1.4826
# A loss that hardly varies would make a spike of everything: the deviation counts for at least this
# share of it.
LEAST_DEVIATION = 0.05
# Dynamic loss scaling halves the scale at each overflow. From 2^16 on, this many in a row are no
# search for a scale.
OVERFLOWS_IN_A_ROW = 20


class GuardSettings(Config):
    """What is done when a training looks wrong.

    None of it changes what is learnt, so no digest has it.
    """

    on_spike: Literal["warn", "stop"] = Field(
        default="warn",
        description="When the loss jumps far above the last steps' median: say so, or end the training.",
    )


class Guards:
    """Judges the steps of a training, one after the other."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._losses: deque[float] = deque(maxlen=WINDOW_STEPS)
        self._overflows = 0
        self._in_spike = False

    def check(self, step: Step, *, epoch: int, overflowed: bool) -> str | None:
        """Returns what is worth a line in the log, if anything.

        Args:
            step: What was just done.
            epoch: The epoch that it belongs to.
            overflowed: Whether its gradients did not fit the precision, so that it changed nothing.

        Raises:
            TrainingError: The training cannot or should not go on.
        """
        where = f"of epoch {epoch}"
        if not math.isfinite(step.loss):
            raise TrainingError(
                f"the loss {where} became {step.loss} at step {step.step}: lower recipe.learning_rate, add "
                "warmup_steps, or look at the examples; the epoch is not published"
            )
        self._overflows = self._overflows + 1 if overflowed else 0
        if self._overflows == OVERFLOWS_IN_A_ROW:
            raise TrainingError(
                f"the gradients {where} overflowed in {self._overflows} steps in a row, the last being step "
                f"{step.step}: set recipe.precision to bf16 or fp32, or lower recipe.learning_rate; the epoch is not "
                "published"
            )
        return self._check_spike(step, where)

    def _check_spike(self, step: Step, where: str) -> str | None:
        was_in_spike, self._in_spike = self._in_spike, False
        limit = self._limit()
        self._losses.append(step.loss)
        if limit is None or step.loss <= limit:
            return None
        self._in_spike = True
        text = (
            f"the loss {where} jumped to {step.loss:.4g} at step {step.step}; the median of the last steps is "
            f"{statistics.median(self._losses):.4g}, and up to {limit:.4g} is usual"
        )
        if self._settings.on_spike == "stop":
            raise TrainingError(
                f"{text}: look at the examples of this step, or lower recipe.learning_rate"
            )
        return None if was_in_spike else text

    def _limit(self) -> float | None:
        """The loss above which a step is a spike; None while there are too few steps to tell."""
        if len(self._losses) < LEAST_STEPS:
            return None
        median = statistics.median(self._losses)
        mad = statistics.median(abs(loss - median) for loss in self._losses)
        deviation = max(DEVIATION_PER_MAD * mad, LEAST_DEVIATION * median)
        return median + SPIKE_DEVIATIONS * deviation
