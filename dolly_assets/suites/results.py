"""What a model scored on a suite: a table by record, and the scores that follow from it.

Any two models that were scored on the same suite can be compared record by record.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.scoring.examples import Score
from dolly_assets.scoring.intervals import ratio_interval, share_interval

CONTAMINATED = "is_contaminated"
RESULTS_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "line": pa.int32(),
        "scorer": pa.string(),
        "prompt": pa.string(),
        "expected": pa.list_(pa.string()),
        "answer": pa.string(),  # null of texts
        "score": pa.float64(),  # from 0 to 1; null of texts
        "unfollowed": pa.list_(pa.string()),  # instructions that the answer does not follow
        "loss": pa.float64(),  # nats, summed over a text's tokens; null of what is answered
        "tokens": pa.int32(),
        "bytes": pa.int32(),
        "choice_losses": pa.list_(pa.float64()),
        CONTAMINATED: pa.bool_(),  # by the training data; null where that is not known
    }
)
"""One line per record, in the order of the suite."""


class Measured(NamedTuple):
    """The scores of a suite; None where nothing of the kind was measured.

    Attributes:
        score: The mean score of what was answered, from 0 to 1; higher is better.
        bits_per_byte: The loss of the texts in bits per byte, which does not depend on the
            tokenizer; lower is better.
        perplexity: The perplexity of the texts per token.
    """

    score: Score
    bits_per_byte: Score
    perplexity: float | None


def measured(results: pa.Table) -> Measured:
    """Return the scores of a table of RESULTS_SCHEMA."""
    scores = pc.drop_null(results["score"]).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    texts = _texts(results)
    loss, tokens = texts["loss"].to_numpy(), texts["tokens"].to_numpy()
    bits = Score.of(loss / math.log(2), texts["bytes"].to_numpy())
    return Measured(
        _mean(scores),
        bits,
        None if bits.value is None else float(np.exp(min(loss.sum() / tokens.sum(), 700))),
    )


def changes(new: pa.Table, old: pa.Table) -> Mapping[str, Score]:
    """Return how the scores of two models on the same suite differ, paired by record.

    Args:
        new: What one model scored.
        old: What the other scored, such as the base model.

    Returns:
        By name, `score` and `bits_per_byte`, new minus old, with intervals; empty where the
        records are not the same.
    """
    same = ["id", "scorer", "prompt", "expected"]
    if not new.select(same).equals(old.select(same)):
        return {}
    found: dict[str, Score] = {}
    scores = [pc.drop_null(table["score"]).to_numpy() for table in (new, old)]  # pyright: ignore[reportAttributeAccessIssue]
    if len(scores[0]):
        gained = scores[0] - scores[1]
        found["score"] = Score.of(gained, np.ones(len(gained)))
    texts = _texts(new)
    if texts.num_rows:
        lost = texts["loss"].to_numpy() - _texts(old)["loss"].to_numpy()
        found["bits_per_byte"] = Score.of(lost / math.log(2), texts["bytes"].to_numpy())
    return found


def rows_of(records: list[dict[str, Any]]) -> pa.Table:
    """Return records as a table of RESULTS_SCHEMA; what they lack is null."""
    return pa.Table.from_pylist(records, RESULTS_SCHEMA)


def _texts(results: pa.Table) -> pa.Table:
    return results.filter(pc.is_valid(results["loss"]))  # pyright: ignore[reportAttributeAccessIssue]


def _mean(scores: np.ndarray) -> Score:
    """Return the mean with Wilson's interval where all scores are 0 or 1, else the bootstrap's."""
    if not len(scores):
        return Score(None)
    is_share = bool(np.isin(scores, (0.0, 1.0)).all())
    interval = (
        share_interval(scores == 1) if is_share else ratio_interval(scores, np.ones_like(scores))
    )
    return Score(float(scores.mean()), interval, len(scores))
