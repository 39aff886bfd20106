"""Whether an epoch replaces the champion by its family's rule: the verdict with its reason.

All contenders were scored on the same held-out examples. The best epoch is tested as the best of
all candidates, so that training longer is no way to win by chance.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from dolly_assets.scoring.contender import (
    Contender,
    are_on_the_same,
    improvements,
    is_finite,
    weights,
    why_not_comparable,
)
from dolly_assets.scoring.intervals import Interval, ratio_interval
from dolly_assets.scoring.paired import Gain, best_gain
from dolly_assets.scoring.rule import TITLES, ChampionRule, ScoreName

Verdict = Literal["promoted", "awaiting approval", "rejected", "unchanged"]
Gates = Callable[[int], Sequence[str]]
"""Returns why a candidate, given by its place, may not be promoted though it is better."""


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


def no_gates(candidate: int) -> Sequence[str]:
    """Return nothing: every candidate may be promoted."""
    return ()


def decide(
    rule: ChampionRule,
    candidates: Sequence[Contender],
    champion: Contender,
    *,
    exact: bool,
    gates: Gates = no_gates,
) -> Decision:
    """Return whether the best of the candidates replaces the champion.

    Args:
        rule: The family's rule.
        candidates: The epochs of a training, at least one.
        champion: The model to be replaced.
        exact: Whether answers can be checked.
        gates: What is required besides; asked of a candidate that is better.
    """
    score = rule.score_of(exact=exact)
    compared = [
        (place, gained)
        for place, each in enumerate(candidates)
        if not each.barred and (gained := improvements(score, each, champion)) is not None
    ]
    if not compared:
        return _without_test(rule, score, candidates, champion, gates)
    gain = best_gain(np.stack([gained for _, gained in compared]), weights(score, champion))
    place = compared[gain.candidate][0]
    gain = gain._replace(candidate=place)
    best = candidates[place]
    if best.checkpoint == champion.checkpoint:
        return Decision("unchanged", place, f"{best.name} is the champion already", gain)
    gained = shown_gain(score, gain.gain, gain.interval)
    if why_not := _not_better(rule, score, gain, best, champion):
        return Decision("rejected", place, f"{best.name} is rejected: {why_not}", gain)
    better = f"{gained}, {shown_p(gain.p_value)}"
    return _through_gates(rule, place, best, better, gates)._replace(gain=gain)


def _without_test(
    rule: ChampionRule,
    score: ScoreName,
    candidates: Sequence[Contender],
    champion: Contender,
    gates: Gates,
) -> Decision:
    """Return the verdict where no candidate can be compared with the champion."""
    finite = _only_finite(score, candidates, champion)
    if finite is None:
        last = candidates[-1]
        why_not = last.barred or why_not_comparable(score, last, champion)
        return Decision("rejected", len(candidates) - 1, f"{last.name} is rejected: {why_not}")
    better = f"its {TITLES[score]} is finite, the champion's is not"
    return _through_gates(rule, finite, candidates[finite], better, gates)


def _through_gates(
    rule: ChampionRule, place: int, best: Contender, better: str, gates: Gates
) -> Decision:
    if failed := gates(place):
        reason = f"{best.name} is rejected: {better}, but {'; '.join(failed)}"
        return Decision("rejected", place, reason)
    if rule.approval == "required":
        return Decision("awaiting approval", place, f"{best.name} awaits approval: {better}")
    return Decision("promoted", place, f"{best.name} is promoted: {better}")


def shown_p(p_value: float) -> str:
    """Return a p-value as sentences show it."""
    return f"p = {p_value:.4f}" if p_value >= 1e-4 else "p < 0.0001"


def shown_gain(score: ScoreName, gain: float, interval: Interval | None) -> str:
    """Return a gain with its interval, in the direction in which the score changes."""
    sign = -1 if score == "held_out_loss" else 1
    bounds = sorted(sign * bound for bound in interval) if interval else None
    shown = f" (95 % from {bounds[0]:+.4f} to {bounds[1]:+.4f})" if bounds else ""
    return f"{TITLES[score]} {sign * gain:+.4f}{shown}"


def _not_better(
    rule: ChampionRule, score: ScoreName, gain: Gain, best: Contender, champion: Contender
) -> str | None:
    """Return why a candidate is not better by the rule; None if it is."""
    gained = shown_gain(score, gain.gain, gain.interval)
    if gain.gain <= 0:
        return f"its {TITLES[score]} is no better ({gained})"
    if gain.gain < rule.minimum_gain:
        return f"{gained}, less than the minimum gain of {rule.minimum_gain:g}"
    if gain.p_value > rule.significance:
        return (
            f"{gained}, which may be chance: p = {gain.p_value:.3f}, at most "
            f"{rule.significance:g} counts"
        )
    for other, allowed in rule.scores_not_to_lose.items():
        if problem := _lost_too_much(other, allowed, best, champion):
            return f"{gained}, but {problem}"
    return None


def _lost_too_much(
    score: ScoreName, allowed: float, best: Contender, champion: Contender
) -> str | None:
    gained = improvements(score, best, champion)
    if gained is None:
        return f"its {TITLES[score]} cannot be compared with the champion's"
    of_each = weights(score, champion)
    gain, interval = gained.sum() / of_each.sum(), ratio_interval(gained, of_each)
    worst = -(interval.low if interval else gain)
    if worst <= allowed:
        return None
    return (
        f"its {TITLES[score]} may be worse by up to {worst:.4f} "
        f"({shown_gain(score, gain, interval)}); at most {allowed:g} is allowed"
    )


def _only_finite(
    score: ScoreName, candidates: Sequence[Contender], champion: Contender
) -> int | None:
    """Return the candidate with the lowest loss if the champion's loss is not finite."""
    if score != "held_out_loss" or champion.scores is None or is_finite(champion):
        return None
    losses = {
        place: each.loss or 0.0
        for place, each in enumerate(candidates)
        if not each.barred and is_finite(each) and are_on_the_same(each, champion)
    }
    return min(losses, key=losses.__getitem__, default=None)
