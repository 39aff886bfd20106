"""When a training ends before its last epoch: the held-out loss has not fallen for some epochs.

A rule on numbers. It depends on the losses of all epochs so far and on nothing else, so it gives
the same verdict whether they were trained in one go, one by one, or after a crash.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.text import count


@dataclass(frozen=True)
class StoppedEarly:
    """The verdict that a training has ended.

    Attributes:
        epoch: The epoch after which it ended.
        best_epoch: The last epoch that improved the held-out loss.
        best_loss: The held-out loss of the best epoch, in nats per labelled token.
    """

    epoch: int
    best_epoch: int
    best_loss: float

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        return (
            f"stopped early after epoch {self.epoch}: the held-out loss has not improved for "
            f"{count(self.epoch - self.best_epoch, 'epoch')}; the best epoch is {self.best_epoch}, "
            f"with {self.best_loss:.4f}"
        )


class EarlyStopping(Config):
    """When a range of epochs ends before its last one.

    Nothing here changes what an epoch learns, so it is part of no digest.
    """

    patience: int = Field(
        ge=1, description="Number of epochs without an improvement after which training ends."
    )
    min_improvement: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="How much the held-out loss has to fall below its lowest value to count, in "
        "nats per labelled token.",
    )

    def verdict(self, losses: Mapping[int, float]) -> StoppedEarly | None:
        """Return whether, and after which epoch, a training has ended.

        Args:
            losses: The held-out loss of each epoch so far. Epochs without one are passed over.
        """
        best: int | None = None
        for epoch in sorted(losses):
            if best is None or losses[epoch] < losses[best] - self.min_improvement:
                best = epoch
            elif epoch - best >= self.patience:
                return StoppedEarly(epoch, best, losses[best])
        return None
