"""The scores of single held-out examples, and those of a model, which follow from them.

The table is kept beside the scores, so that any two models that were scored on the same split can
be compared example by example.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.scoring import texts
from dolly_assets.scoring.intervals import Interval, ratio_interval, share_interval

SCORES_FILE = "scores.parquet"
SCORES_SCHEMA = pa.schema(
    {
        "record": pa.int64(),  # index in the raw dataset
        "category": pa.string(),
        "labelled_tokens": pa.int32(),
        "loss": pa.float64(),  # nats, summed over the labelled tokens
        "prompt": pa.string(),
        "expected": pa.string(),
        "answer": pa.string(),  # null where the model was not asked
        "is_exact": pa.bool_(),  # null with the answer
        "token_f1": pa.float64(),  # null with the answer
    }
)
"""One line per held-out example, in the order of the split."""


@dataclass(frozen=True)
class Score:
    """A score with its interval; None where it is not finite or nothing was measured."""

    value: float | None
    interval: Interval | None = None
    examples: int = 0

    @classmethod
    def of(cls, parts: np.ndarray, weights: np.ndarray) -> Self:
        """Return sum(parts) / sum(weights) with its bootstrap interval."""
        if not len(parts) or not np.isfinite(parts).all():
            return cls(None, examples=len(parts))
        value = float(parts.sum() / weights.sum())
        return cls(value, ratio_interval(parts, weights), len(parts))


def with_checked_answers(
    losses: pa.Table, answers: list[str | None], expected: list[str], prompts: list[str]
) -> pa.Table:
    """Return the table of SCORES_SCHEMA, with every answer that was given checked.

    Args:
        losses: The columns record, category, labelled_tokens and loss.
        answers: The model's answers, None where it was not asked.
        expected: The expected answers.
        prompts: The prompts as text.
    """
    pairs = list(zip(answers, expected, strict=True))
    checked = {
        "prompt": prompts,
        "expected": expected,
        "answer": answers,
        "is_exact": [
            None if given is None else texts.is_exact(given, wanted) for given, wanted in pairs
        ],
        "token_f1": [
            None if given is None else texts.token_f1(given, wanted) for given, wanted in pairs
        ],
    }
    columns = {name: losses[name] for name in ("record", "category", "labelled_tokens", "loss")}
    return pa.table({**columns, **checked}, schema=SCORES_SCHEMA)


def held_out_loss(scores: pa.Table) -> Score:
    """Return the loss in nats per labelled token."""
    return Score.of(scores["loss"].to_numpy(), scores["labelled_tokens"].to_numpy())


def exact_match(scores: pa.Table) -> Score:
    """Return the share of the answers that equal the expected ones, with Wilson's interval."""
    right = pc.drop_null(scores["is_exact"]).to_numpy(zero_copy_only=False).astype(bool)  # pyright: ignore[reportAttributeAccessIssue]
    if not len(right):
        return Score(None)
    return Score(float(right.mean()), share_interval(right), len(right))


def token_f1(scores: pa.Table) -> Score:
    """Return the mean token F1 of the answers."""
    values = pc.drop_null(scores["token_f1"]).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    return Score.of(values, np.ones(len(values)))


def loss_per_token(scores: pa.Table) -> float | None:
    """Return `held_out_loss` without its interval, which takes thousands of resamples."""
    if not scores.num_rows:
        return None
    loss, tokens = scores["loss"].to_numpy(), scores["labelled_tokens"].to_numpy()
    return _finite(float(loss.sum() / tokens.sum()))


def held_out_loss_by_category(scores: pa.Table) -> dict[str, float | None]:
    """Return the loss in nats per labelled token within each category, by name."""
    sums = scores.group_by("category").aggregate([("loss", "sum"), ("labelled_tokens", "sum")])
    return {
        row["category"]: _finite(row["loss_sum"] / row["labelled_tokens_sum"])
        for row in sums.sort_by("category").to_pylist()
    }


def by_category(scores: pa.Table) -> dict[str, Score]:
    """Return the exact match within each category, or the held-out loss if answers are open."""
    is_open = scores["is_exact"].null_count == scores.num_rows
    score, categories = held_out_loss if is_open else exact_match, scores["category"]
    return {
        name: score(scores.filter(pc.equal(categories, name)))  # pyright: ignore[reportAttributeAccessIssue]
        for name in sorted(categories.unique().to_pylist())
    }


def answer_figures(scores: pa.Table) -> Mapping[str, Any]:
    """Return what the answers look like: their length in words, repetition, refusals and copying.

    Shares are from 0 to 1. Empty without answers.
    """
    given = scores.filter(pc.is_valid(scores["answer"]))  # pyright: ignore[reportAttributeAccessIssue]
    answers, prompts = given["answer"].to_pylist(), given["prompt"].to_pylist()
    if not answers:
        return {}
    words = [len(answer.split()) for answer in answers]
    return {
        "answers": len(answers),
        "answer_words_mean": float(np.mean(words)),
        "expected_words_mean": float(
            np.mean([len(each.split()) for each in given["expected"].to_pylist()])
        ),
        "empty_share": float(np.mean([not count for count in words])),
        "repeated_share": float(np.mean([texts.repeated_share(answer) for answer in answers])),
        "refused_share": float(np.mean([texts.is_refusal(answer) for answer in answers])),
        "copied_share": float(
            np.mean([texts.copied_share(*pair) for pair in zip(answers, prompts, strict=True)])
        ),
        "distinct_1": texts.distinct_share(answers, 1),
        "distinct_2": texts.distinct_share(answers, 2),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
