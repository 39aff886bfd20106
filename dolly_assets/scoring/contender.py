"""A model with the scores of its examples, and what these gained over another model's.

Two models can be compared by a score if both were scored on the same examples, and each score of
theirs is finite.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.scoring.examples import (
    Score,
    exact_match,
    held_out_loss,
    loss_per_token,
    token_f1,
)
from dolly_assets.scoring.rule import TITLES, ScoreName

_SCORES = {"exact_match": exact_match, "token_f1": token_f1, "held_out_loss": held_out_loss}


@dataclass(frozen=True)
class Contender:
    """A model with the scores of its examples.

    Attributes:
        name: What sentences call it, such as `epoch 3`.
        checkpoint: The digest of its checkpoint.
        scores: Its table of SCORES_SCHEMA; None if it was scored without one.
        barred: Why it may not be promoted, whatever it scored; empty if it may.
        memorization: How much more of its training records than of held-out ones it reproduces;
            None if that was not measured.
    """

    name: str
    checkpoint: str
    scores: pa.Table | None
    barred: str = ""
    memorization: Score | None = None

    def score(self, name: ScoreName) -> Score:
        """Return one of its scores, with its interval."""
        return Score(None) if self.scores is None else _SCORES[name](self.scores)

    @property
    def loss(self) -> float | None:
        """Its held-out loss in nats per labelled token; None if it is not finite or unknown."""
        return None if self.scores is None else loss_per_token(self.scores)


def improvements(score: ScoreName, new: Contender, old: Contender) -> np.ndarray | None:
    """Return what each example gained, times its weight; None if they cannot be compared."""
    if new.scores is None or old.scores is None or not are_on_the_same(new, old):
        return None
    if score == "held_out_loss":
        gained = old.scores["loss"].to_numpy() - new.scores["loss"].to_numpy()
        return gained if np.isfinite(gained).all() else None
    values = [_answered(table, score) for table in (new.scores, old.scores)]
    if not len(values[0]) or len(values[0]) != len(values[1]):
        return None
    return values[0] - values[1]


def weights(score: ScoreName, contender: Contender) -> np.ndarray:
    """Return the weight of each example: its labelled tokens for a loss, else one."""
    scores = contender.scores
    if scores is None:
        return np.ones(0)
    if score == "held_out_loss":
        return scores["labelled_tokens"].to_numpy()
    return np.ones(len(_answered(scores, score)))


def are_on_the_same(new: Contender, old: Contender) -> bool:
    """Whether two models were scored on the same examples."""
    if new.scores is None or old.scores is None:
        return False
    columns = ["record", "labelled_tokens", "expected"]
    return new.scores.select(columns).equals(old.scores.select(columns))


def is_finite(contender: Contender) -> bool:
    """Whether the loss of every example is finite."""
    return contender.scores is not None and bool(
        np.isfinite(contender.scores["loss"].to_numpy()).all()
    )


def why_not_comparable(score: ScoreName, new: Contender, old: Contender) -> str:
    """Return why two models cannot be compared by a score; empty if they can."""
    for each in (new, old):
        if each.scores is None:
            return (
                f"{each.name} has no scores by example, since an earlier version scored it; "
                "materialize evaluation again"
            )
    if not are_on_the_same(new, old):
        return "it was scored on other held-out examples"
    if improvements(score, new, old) is None:
        return f"its {TITLES[score]} is not finite, or nothing was scored"
    return ""


def _answered(scores: pa.Table, score: ScoreName) -> np.ndarray:
    column = scores["is_exact" if score == "exact_match" else "token_f1"]
    return pc.drop_null(column).to_numpy(zero_copy_only=False).astype(np.float64)  # pyright: ignore[reportAttributeAccessIssue]
