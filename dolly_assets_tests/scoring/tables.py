"""Tables of scores for tests."""

from collections.abc import Sequence

import pyarrow as pa

from dolly_assets.scoring.examples import with_checked_answers


def scored(
    answers: Sequence[str | None],
    losses: Sequence[float] | None = None,
    *,
    expected: str = "yes",
    first_record: int = 0,
    tokens: int = 10,
) -> pa.Table:
    """Return the scores of a model that gave these answers, with these losses per token."""
    count = len(answers)
    per_token = losses or [1.0] * count
    table = pa.table(
        {
            "record": range(first_record, first_record + count),
            "category": ["a", "b"] * (count // 2) + ["a"] * (count % 2),
            "labelled_tokens": [tokens] * count,
            "loss": [loss * tokens for loss in per_token],
        }
    )
    return with_checked_answers(table, [*answers], [expected] * count, ["a question"] * count)


def right(share: float, count: int = 100) -> pa.Table:
    """Return scores of a model that answers the first examples right."""
    number = round(share * count)
    return scored(["yes"] * number + ["no"] * (count - number))
