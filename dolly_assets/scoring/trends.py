"""Whether answers grow longer or shorter with training: a trend over epochs, tested by prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dolly_assets.scoring.champion import shown_p

SIGNIFICANCE = 0.05
LEAST_EPOCHS, LEAST_PROMPTS = 3, 2


@dataclass(frozen=True)
class LengthTrend:
    """How the length of answers changes from the first trained epoch to the last.

    Attributes:
        first_epoch: The first epoch.
        last_epoch: The last one.
        first_words: Words per answer after the first epoch, on average.
        last_words: The same after the last one.
        prompts: How many prompts all epochs answered.
        p_value: Of Page's trend test, two-sided.
    """

    first_epoch: int
    last_epoch: int
    first_words: float
    last_words: float
    prompts: int
    p_value: float

    @property
    def sentence(self) -> str:
        """The trend in words."""
        trend = "do not change their length with training"
        if self.p_value <= SIGNIFICANCE:
            grows = self.last_words > self.first_words
            trend = f"grow {'longer' if grows else 'shorter'} with training"
        return (
            f"Answers {trend}: {self.first_words:.1f} words on average after epoch "
            f"{self.first_epoch}, {self.last_words:.1f} after epoch {self.last_epoch} (Page's "
            f"trend test over {self.prompts} prompts, two-sided, {shown_p(self.p_value)})"
        )


def length_trend(epochs: Sequence[int], words: np.ndarray) -> LengthTrend | None:
    """Return the trend in the length of answers; None with too little to test.

    Page's test ranks the epochs within each prompt, so that long answers count no more than short
    ones (https://doi.org/10.1080/01621459.1963.10500843).

    Args:
        epochs: The trained epochs, ascending.
        words: (prompts, epochs): the length of each answer, in words.
    """
    from scipy.stats import page_trend_test

    if len(epochs) < LEAST_EPOCHS or len(words) < LEAST_PROMPTS:
        return None
    rising, falling = (float(page_trend_test(each).pvalue) for each in (words, words[:, ::-1]))
    means = words.mean(axis=0)
    return LengthTrend(
        first_epoch=epochs[0],
        last_epoch=epochs[-1],
        first_words=float(means[0]),
        last_words=float(means[-1]),
        prompts=len(words),
        p_value=min(1.0, 2 * min(rising, falling)),
    )
