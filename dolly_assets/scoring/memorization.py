"""What a model remembers of its training data: records that it continues verbatim.

A share alone does not tell memorizing from learning: templated answers are reproduced by whoever
has learnt the task. So as many held-out records are probed as a control, and what counts is the
difference. Which records are probed, and how, is the business of `generation.memorization`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from dolly_assets.core.markdown import markdown_table
from dolly_assets.core.text import count, percent
from dolly_assets.scoring.examples import Score
from dolly_assets.scoring.intervals import (
    Interval,
    share_difference_interval,
    share_interval,
)

MEMORIZATION_FILE = "memorization.parquet"
MEMORIZATION_SCHEMA = pa.schema(
    {
        "record": pa.int64(),  # index in the raw dataset
        "is_held_out": pa.bool_(),
        "prompt": pa.string(),
        "prefix": pa.string(),  # the part of the response that the model was given
        "expected": pa.string(),  # the part that follows
        "continuation": pa.string(),  # what the model wrote instead of it
        "is_reproduced": pa.bool_(),
    }
)
"""One line per probed record: those that were trained on first."""
_SHOWN = 5


class Memorization(NamedTuple):
    """How much of a model's training data it reproduces verbatim.

    Attributes:
        training: The share of the probed training records that it reproduces.
        held_out: The same of held-out records, which it has never seen.
        above: How much more of the training records, with Newcombe's interval.
    """

    training: Score
    held_out: Score
    above: Score

    @property
    def sentence(self) -> str:
        """The shares in words."""
        if self.training.value is None:
            return "No training record has a response that is long enough to be probed."
        shares = f"Reproduced verbatim: {_shown(self.training, 'training record')}"
        if self.held_out.value is None:
            return f"{shares}; no held-out record is long enough to compare with."
        return f"{shares}, {_shown(self.held_out, 'held-out record')}."


def memorization(probed: pa.Table) -> Memorization:
    """Return the shares that follow from a table of MEMORIZATION_SCHEMA."""
    right = probed["is_reproduced"].to_numpy(zero_copy_only=False).astype(bool)
    is_held_out = probed["is_held_out"].to_numpy(zero_copy_only=False).astype(bool)
    sides = right[~is_held_out], right[is_held_out]
    training, held_out = (
        Score(float(side.mean()), share_interval(side), len(side)) if len(side) else Score(None)
        for side in sides
    )
    above = Score(None)
    if training.value is not None and held_out.value is not None:
        interval = share_difference_interval(*sides)
        above = Score(training.value - held_out.value, interval, min(map(len, sides)))
    return Memorization(training, held_out, above)


def exceeds(value: float, interval: Iterable[float] | None, limit: float) -> str | None:
    """Return why a share above the control is more than a limit; None if that is not certain.

    The limit counts as exceeded if the whole 95 % interval is above it, so that two or three
    records of a small sample bar no model.
    """
    if interval is None:
        return None
    low, high = interval
    if low <= limit:
        return None
    return (
        f"it reproduces {_percent(value)} more of its training records verbatim than of held-out "
        f"ones (95 % from {_percent(low)} to {_percent(high)}); at most {_percent(limit)} is "
        "allowed (champion.memorization_limit)"
    )


def reproduced_markdown(probed: pa.Table) -> str:
    """Return the first few reproduced records as Markdown; empty if there is none."""
    found = probed.filter(probed["is_reproduced"]).slice(0, _SHOWN).to_pylist()
    header = ("record", "side", "prompt", "given", "continued verbatim")
    rows = [
        (
            str(row["record"]),
            "held out" if row["is_held_out"] else "training",
            row["prompt"],
            row["prefix"],
            row["continuation"],
        )
        for row in found
    ]
    return markdown_table(header, rows) if rows else ""


def _shown(score: Score, noun: str) -> str:
    bounds = score.interval or Interval(0.0, 1.0)
    return (
        f"{_percent(score.value or 0.0)} of {count(score.examples, noun)} "
        f"(95 % from {_percent(bounds.low)} to {_percent(bounds.high)})"
    )


def _percent(share: float) -> str:
    return percent(share, digits=1)
