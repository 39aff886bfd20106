"""Rows of similar length in batches. It knows lengths in tokens alone."""

from collections.abc import Iterator, Sequence

# Tokens of a batch that is scored. With a vocabulary of 128,000 the logits of as many labelled
# tokens take 5 GB, also in float32; more at once is not faster.
BATCH_TOKENS = 4096


def batches_within(
    lengths: Sequence[int], batch_size: int, tokens: int | None = None
) -> Iterator[list[int]]:
    """Yield row indices in batches of similar length, the longest first.

    If memory is too small, it shows in the first batch.

    Args:
        lengths: Tokens of each row.
        batch_size: The most rows of a batch.
        tokens: The most tokens of a batch, padding included; a longer row is a batch of its own.
    """
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    while rows:
        fitting = tokens // max(1, lengths[rows[0]]) if tokens is not None else batch_size
        count = max(1, min(batch_size, fitting))
        yield rows[:count]
        rows = rows[count:]
