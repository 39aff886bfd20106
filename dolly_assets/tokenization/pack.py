"""Which examples share a row. It knows lengths, not tokens."""

import numpy as np

# Part of the code version of tokenized datasets: raise it whenever the same lengths would be packed
# differently.
PACKING_VERSION = 1


def pack(lengths: np.ndarray, max_length: int) -> np.ndarray:
    """Pack examples into rows of at most `max_length` tokens, by best-fit decreasing.

    The algorithm is that of D. S. Johnson, 1973. From the longest example to the shortest, equal
    ones in their order, each goes into the row with the least space that still holds it, and of
    several such rows into the one that got an example last; if there is none, a new row is opened.

    Args:
        lengths: Tokens per example, each from 1 to `max_length`.
        max_length: Length of the longest row in tokens.

    Returns:
        The row of each example (int32). Rows are numbered from 0, in the order in which they were
        opened.
    """
    row_of = np.empty(len(lengths), dtype=np.int32)
    rows_by_space: list[list[int]] = [[] for _ in range(max_length)]
    spaces = 0  # bit s is set while there is a row with space for s tokens
    rows = 0
    order = np.argsort(-lengths, kind="stable")
    for example, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        if enough := spaces >> length:
            space = length + (enough & -enough).bit_length() - 1  # the lowest bit
            row = rows_by_space[space].pop()
            if not rows_by_space[space]:
                spaces ^= 1 << space
        else:
            space, row, rows = max_length, rows, rows + 1
        row_of[example] = row
        rows_by_space[space - length].append(row)
        spaces |= 1 << space - length
    return row_of
