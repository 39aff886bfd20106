"""Guards that check every optimizer step: losses that are not finite, spikes, repeated overflows.

They see numbers, not tensors, and reach the same verdict on every rank.
"""

import math
from typing import Literal

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import TrainingError
from dolly_assets.scoring.spikes import RecentLosses

# Dynamic loss scaling halves the scale at each overflow. Starting from 2^16, this many in a row are
# no longer a search for a scale.
OVERFLOWS_IN_A_ROW = 20


class GuardSettings(Config):
    """What to do when a training looks wrong.

    Nothing here changes what is learnt, so it is part of no digest.
    """

    on_spike: Literal["warn", "stop"] = Field(
        default="warn",
        description="What to do when the loss jumps far above the median of the last steps: log a "
        "warning, or stop the training.",
    )


class Guards:
    """Checks the steps of a training, one after the other."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._losses = RecentLosses()
        self._overflows = 0
        self._in_spike = False

    def check(self, step: int, loss: float, *, epoch: int, overflowed: bool) -> str | None:
        """Return a warning for the log, if there is one.

        Args:
            step: Number of the step that was just done.
            loss: Its loss.
            epoch: The epoch that it belongs to.
            overflowed: Whether its gradients overflowed, so that the weights did not change.

        Raises:
            TrainingError: The training cannot or should not continue.
        """
        where = f"of epoch {epoch}"
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss {where} became {loss} at step {step}: lower "
                "recipe.learning_rate, add warmup_steps, or check the examples; the epoch is not "
                "published"
            )
        self._overflows = self._overflows + 1 if overflowed else 0
        if self._overflows == OVERFLOWS_IN_A_ROW:
            raise TrainingError(
                f"the gradients {where} overflowed in {self._overflows} steps in a row, up to step "
                f"{step}: set recipe.precision to bf16 or fp32, or lower "
                "recipe.learning_rate; the epoch is not published"
            )
        return self._check_spike(step, loss, where)

    def _check_spike(self, step: int, loss: float, where: str) -> str | None:
        spike, was_in_spike = self._losses.add(loss), self._in_spike
        self._in_spike = spike is not None
        if spike is None:
            return None
        text = (
            f"the loss {where} jumped to {loss:.4g} at step {step}; the median of the "
            f"last steps is {spike.usual:.4g}, and up to {spike.limit:.4g} is normal"
        )
        if self._settings.on_spike == "stop":
            raise TrainingError(
                f"{text}: check the examples of this step, or lower recipe.learning_rate"
            )
        return None if was_in_spike else text
