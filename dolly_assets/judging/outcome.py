"""What the verdicts of a judge amount to: a win rate, and how far the judge can be trusted."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dolly_assets.core.text import flat, percent
from dolly_assets.scoring.intervals import Interval, ratio_interval, share_interval

SIGNIFICANCE = 0.05
_SCORES = {"win": 1.0, "tie": 0.5, "loss": 0.0}
_SHOWN = 80  # characters of a reply


class Outcome(NamedTuple):
    """How a model fares against the base model; None where there is nothing to measure.

    Attributes:
        pairs: The pairs of answers.
        wins: Pairs that the model won in both orders.
        losses: Pairs that it lost in both.
        ties: All other pairs whose verdicts were understood.
        equal_answers: Ties because the answers are the same; the judge was not asked.
        not_understood: Pairs with a reply that holds no verdict; they count nowhere else.
        win_rate: Wins and half of the ties, of wins, losses and ties.
        interval: Its 95 % interval.
        p_value: How often two equal models would differ as much (sign test, two-sided).
        first_preferred: Pairs in which the answer that was shown first won in both orders.
        second_preferred: The same of the answer that was shown second.
        order_agreement: Share of the pairs whose verdict did not depend on the order.
        order_kappa: Cohen's kappa of the verdicts in the two orders.
        longer_won: Share of the wins and losses that went to the longer answer.
        why_none: Why there is no win rate; empty if there is one.
    """

    pairs: int
    wins: int
    losses: int
    ties: int
    equal_answers: int
    not_understood: int
    win_rate: float | None
    interval: Interval | None
    p_value: float | None
    first_preferred: int
    second_preferred: int
    order_agreement: float | None
    order_kappa: float | None
    longer_won: float | None
    why_none: str

    @property
    def asked(self) -> int:
        """Pairs whose verdicts were understood, without those with equal answers."""
        return self.wins + self.losses + self.ties - self.equal_answers


def outcome(verdicts: pa.Table, *, most_not_understood: float) -> Outcome:
    """Return what the table of VERDICTS_SCHEMA amounts to.

    Args:
        verdicts: The pairs with their verdicts.
        most_not_understood: Share of the pairs above which there is no win rate.
    """
    rows = verdicts.to_pylist()
    counts = Counter(row["result"] for row in rows)
    orders = [
        (row["base_first"], row["new_first"])
        for row in rows
        if row["result"] != "not_understood" and row["base_first_request"]
    ]
    why_none = _why_none(rows, counts["not_understood"], most_not_understood)
    scores = np.array([_SCORES[row["result"]] for row in rows if row["result"] in _SCORES])
    return Outcome(
        pairs=len(rows),
        wins=counts["win"],
        losses=counts["loss"],
        ties=counts["tie"],
        equal_answers=sum(row["base_first_request"] is None for row in rows),
        not_understood=counts["not_understood"],
        win_rate=None if why_none else float(scores.mean()),
        interval=None if why_none else _interval(scores),
        p_value=None if why_none else sign_test(counts["win"], counts["loss"]),
        first_preferred=orders.count(("base", "new")),
        second_preferred=orders.count(("new", "base")),
        order_agreement=float(np.mean([a == b for a, b in orders])) if orders else None,
        order_kappa=kappa(orders),
        longer_won=_longer_won(rows),
        why_none=why_none,
    )


def sign_test(more: int, fewer: int, *, is_one_sided: bool = False) -> float:
    """Return how often chance would divide pairs at least as unevenly.

    Args:
        more: Pairs that one model won.
        fewer: Pairs that the other won.
        is_one_sided: Whether only a surplus of `more` counts.
    """
    from scipy.stats import binomtest

    if not more + fewer:
        return 1.0
    side = "greater" if is_one_sided else "two-sided"
    return float(binomtest(more, more + fewer, alternative=side).pvalue)


def kappa(orders: Sequence[tuple[str, str]]) -> float | None:
    """Return Cohen's kappa of two verdicts on the same pairs; None if each is always the same.

    https://doi.org/10.1177/001316446002000104
    """
    if not orders:
        return None
    first, second = (Counter(side) for side in zip(*orders, strict=True))
    observed = sum(a == b for a, b in orders) / len(orders)
    expected = sum(first[name] * second[name] for name in first) / len(orders) ** 2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def _interval(scores: np.ndarray) -> Interval | None:
    """Return the interval of a win rate: Wilson's without ties, else the bootstrap's.

    Where all pairs are ties, as with a judge that always prefers the first place, there is none.
    """
    if not (scores == 0.5).any():
        return share_interval(scores == 1)
    return ratio_interval(scores, np.ones(len(scores))) if np.ptp(scores) else None


def _why_none(rows: list[dict[str, str]], not_understood: int, most: float) -> str:
    if not rows:
        return "there are no two answers to compare"
    share = not_understood / len(rows)
    if not not_understood or (share <= most and not_understood < len(rows)):
        return ""
    replies = [
        row[f"{order}_reply"]
        for row in rows
        for order in ("base_first", "new_first")
        if row["result"] == "not_understood" and row[order] is None
    ]
    example = flat(replies[0], _SHOWN) or "an empty reply"
    return (
        f"in {percent(share)} of {len(rows)} pairs the judge's reply holds no verdict, which is "
        f"more than the {percent(most)} of evaluation.judge.most_not_understood: for example "
        f"{example!r}; use a better judge, or raise evaluation.judge.max_tokens if replies are cut"
    )


def _longer_won(rows: list[dict[str, str]]) -> float | None:
    """Return how often the longer answer won; judges are known to prefer length."""
    longer = [
        (len(row["new_answer"]) > len(row["base_answer"])) == (row["result"] == "win")
        for row in rows
        if row["result"] in ("win", "loss") and len(row["new_answer"]) != len(row["base_answer"])
    ]
    return float(np.mean(longer)) if longer else None
