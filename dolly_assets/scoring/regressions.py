"""Whether a model is worse than another, and whether a training has begun to overfit.

A model counts as worse if a paired test on the same examples says so, one-sided at 5 %: a check
that warned of noise would soon not be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dolly_assets.scoring.champion import shown_gain, shown_p
from dolly_assets.scoring.contender import Contender, improvements, weights, why_not_comparable
from dolly_assets.scoring.intervals import Interval
from dolly_assets.scoring.paired import best_gain
from dolly_assets.scoring.rule import ScoreName

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Comparison:
    """What a paired test says of a model and another.

    Attributes:
        is_worse: Whether it is worse, and not by chance.
        sentence: The difference, with its interval and p-value.
    """

    is_worse: bool
    sentence: str


def compare(score: ScoreName, new: Contender, old: Contender) -> Comparison | None:
    """Return whether a model is worse than another; None if they cannot be compared."""
    gained = improvements(score, new, old)
    if gained is None:
        return None
    lost = best_gain(-gained[None], weights(score, old))
    interval = Interval(-lost.interval.high, -lost.interval.low) if lost.interval else None
    shown = shown_gain(score, -lost.gain, interval)
    is_worse = lost.gain > 0 and lost.p_value <= SIGNIFICANCE
    chance = f", {shown_p(lost.p_value)}" if lost.gain > 0 else ""
    return Comparison(is_worse, f"{shown} against {old.name}{chance}")


def overfitting(
    epochs: Mapping[int, Contender], training_losses: Mapping[int, float | None], epoch: int
) -> Comparison | None:
    """Return whether the held-out loss has turned by an epoch, while the training loss still falls.

    Args:
        epochs: The scored epochs of one training, from 1.
        training_losses: The mean training loss of each.
        epoch: The epoch in question.

    Returns:
        The comparison with the epoch before it whose held-out loss was lowest; None without one.
    """
    losses = {
        each: value
        for each, contender in epochs.items()
        if each < epoch
        and (value := contender.loss) is not None
        and not why_not_comparable("held_out_loss", contender, epochs[epoch])
    }
    if not losses:
        return None
    best = min(losses, key=losses.__getitem__)
    found = compare("held_out_loss", epochs[epoch], epochs[best])
    now, then = training_losses.get(epoch), training_losses.get(best)
    if found is None or now is None or then is None:
        return found
    sentence = f"{found.sentence}; training loss {then:.4f} then, {now:.4f} now"
    return Comparison(found.is_worse and now < then, sentence)
