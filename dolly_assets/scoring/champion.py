"""Whether an epoch replaces the champion by its family's rule: the verdict with its reason.

All contenders were scored on the same held-out examples. The best epoch is tested as the best of so
many, so that training longer is no way to win by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.scoring.intervals import Interval, ratio_interval
from dolly_assets.scoring.paired import Gain, best_gain
from dolly_assets.scoring.rule import TITLES, ChampionRule, ScoreName

Verdict = Literal["promoted", "rejected", "unchanged"]


@dataclass(frozen=True)
class Contender:
    """A model with the scores of its examples.

    Attributes:
        name: What sentences call it, such as `epoch 3`.
        checkpoint: The digest of its checkpoint.
        scores: Its table of SCORES_SCHEMA; None if it was scored without one.
    """

    name: str
    checkpoint: str
    scores: pa.Table | None


class Decision(NamedTuple):
    """The verdict on the best candidate, and the reason.

    Attributes:
        verdict: What becomes of it.
        candidate: Its place among the candidates.
        reason: A sentence.
        gain: What it gained, if the two could be compared.
    """

    verdict: Verdict
    candidate: int
    reason: str
    gain: Gain | None = None


def decide(
    rule: ChampionRule, candidates: Sequence[Contender], champion: Contender, *, exact: bool
) -> Decision:
    """Return whether the best of the candidates replaces the champion.

    Args:
        rule: The family's rule.
        candidates: The epochs of a training, at least one.
        champion: The model to be replaced.
        exact: Whether answers can be checked.
    """
    score = rule.score or ("exact_match" if exact else "held_out_loss")
    compared = [
        (place, improvements)
        for place, each in enumerate(candidates)
        if (improvements := _improvements(score, each, champion)) is not None
    ]
    if not compared and (finite := _only_finite(score, candidates, champion)) is not None:
        reason = f"its {TITLES[score]} is finite, the champion's is not"
        return Decision("promoted", finite, f"{candidates[finite].name} is promoted: {reason}")
    if not compared:
        return Decision("rejected", len(candidates) - 1, _why_not(score, candidates, champion))
    weights = _weights(score, champion)
    gain = best_gain(np.stack([improvements for _, improvements in compared]), weights)
    place = compared[gain.candidate][0]
    gain = gain._replace(candidate=place)
    best = candidates[place]
    if best.checkpoint == champion.checkpoint:
        reason = f"{best.name} is the champion already"
        return Decision("unchanged", place, reason, gain)
    verdict, reason = _verdict(rule, score, gain, best, champion)
    return Decision(verdict, place, f"{best.name} is {verdict}: {reason}", gain)


def _verdict(
    rule: ChampionRule, score: ScoreName, gain: Gain, best: Contender, champion: Contender
) -> tuple[Verdict, str]:
    title, gained = TITLES[score], _shown_gain(score, gain.gain, gain.interval)
    if gain.gain <= 0:
        return "rejected", f"its {title} is no better ({gained})"
    if gain.gain < rule.minimum_gain:
        return "rejected", f"{gained}, less than the minimum gain of {rule.minimum_gain:g}"
    if gain.p_value > rule.significance:
        return "rejected", (
            f"{gained}, which may be chance: p = {gain.p_value:.3f}, at most "
            f"{rule.significance:g} counts"
        )
    for other, allowed in rule.may_not_lose.items():
        if problem := _lost_too_much(other, allowed, best, champion):
            return "rejected", f"{gained}, but {problem}"
    return "promoted", f"{gained}, p = {gain.p_value:.4f}"


def _lost_too_much(
    score: ScoreName, allowed: float, best: Contender, champion: Contender
) -> str | None:
    improvements = _improvements(score, best, champion)
    if improvements is None:
        return f"its {TITLES[score]} cannot be compared with the champion's"
    weights = _weights(score, champion)
    gain, interval = improvements.sum() / weights.sum(), ratio_interval(improvements, weights)
    worst = -(interval.low if interval else gain)
    if worst <= allowed:
        return None
    return (
        f"its {TITLES[score]} may be worse by up to {worst:.4f} "
        f"({_shown_gain(score, gain, interval)}); at most {allowed:g} is allowed"
    )


def _shown_gain(score: ScoreName, gain: float, interval: Interval | None) -> str:
    """Return a gain with its interval, in the direction in which the score changes."""
    sign = -1 if score == "held_out_loss" else 1
    bounds = sorted(sign * bound for bound in interval) if interval else None
    shown = f" (95 % from {bounds[0]:+.4f} to {bounds[1]:+.4f})" if bounds else ""
    return f"{TITLES[score]} {sign * gain:+.4f}{shown}"


def _improvements(score: ScoreName, new: Contender, old: Contender) -> np.ndarray | None:
    """Return what each example gained, times its weight; None if they cannot be compared."""
    if new.scores is None or old.scores is None or not _on_the_same(new.scores, old.scores):
        return None
    if score == "held_out_loss":
        gained = old.scores["loss"].to_numpy() - new.scores["loss"].to_numpy()
        return gained if np.isfinite(gained).all() else None
    values = [_answered(table, score) for table in (new.scores, old.scores)]
    if not len(values[0]) or len(values[0]) != len(values[1]):
        return None
    return values[0] - values[1]


def _weights(score: ScoreName, contender: Contender) -> np.ndarray:
    scores = contender.scores
    if scores is None:
        return np.ones(0)
    if score == "held_out_loss":
        return scores["labelled_tokens"].to_numpy()
    return np.ones(len(_answered(scores, score)))


def _answered(scores: pa.Table, score: ScoreName) -> np.ndarray:
    column = scores["is_exact" if score == "exact_match" else "token_f1"]
    return pc.drop_null(column).to_numpy(zero_copy_only=False).astype(np.float64)  # pyright: ignore[reportAttributeAccessIssue]


def _on_the_same(new: pa.Table, old: pa.Table) -> bool:
    columns = ["record", "labelled_tokens", "expected"]
    return new.select(columns).equals(old.select(columns))


def _only_finite(
    score: ScoreName, candidates: Sequence[Contender], champion: Contender
) -> int | None:
    """Return the candidate with the lowest loss if the champion's loss is not finite."""
    if score != "held_out_loss" or champion.scores is None:
        return None
    if np.isfinite(champion.scores["loss"].to_numpy()).all():
        return None
    losses = {
        place: float(each.scores["loss"].to_numpy().sum())
        for place, each in enumerate(candidates)
        if each.scores is not None and _on_the_same(each.scores, champion.scores)
    }
    finite = {place: loss for place, loss in losses.items() if np.isfinite(loss)}
    return min(finite, key=finite.__getitem__, default=None)


def _why_not(score: ScoreName, candidates: Sequence[Contender], champion: Contender) -> str:
    """Return why no candidate can be compared with the champion."""
    best = candidates[-1]
    if best.scores is None or champion.scores is None:
        whose = best.name if best.scores is None else "the champion"
        return (
            f"{best.name} is rejected: {whose} has no scores by example, since an earlier version "
            "scored it; materialize evaluation again"
        )
    if not _on_the_same(best.scores, champion.scores):
        return f"{best.name} is rejected: it was scored on other held-out examples"
    return f"{best.name} is rejected: its {TITLES[score]} is not finite, or nothing was scored"
