import numpy as np
import pytest

from dolly_assets.tokenization.pack import pack


def lengths_like_alpaca(count: int, max_length: int) -> np.ndarray:
    """Most are short, few are long."""
    random = np.random.default_rng(7)
    return np.clip(random.lognormal(4.3, 0.7, count).astype(int), 1, max_length)


@pytest.mark.parametrize("max_length", [256, 2048])
def test_rows_are_full_and_none_is_too_long(max_length) -> None:
    lengths = lengths_like_alpaca(20_000, max_length)
    rows = pack(lengths, max_length)
    tokens = np.bincount(rows, lengths)
    assert tokens.min() > 0  # rows are numbered without a gap
    assert tokens.max() <= max_length
    assert tokens.mean() / max_length > 0.99


def test_an_example_goes_where_it_leaves_the_least_space() -> None:
    """6 and 5 open rows; 4 fits best beside 6, 3 beside 5, 2 beside 5 and 3; 1 needs a new row."""
    assert pack(np.array([1, 2, 3, 4, 5, 6]), 10).tolist() == [2, 1, 1, 0, 1, 0]


def test_equal_lengths_keep_their_order() -> None:
    assert pack(np.array([4, 4, 4, 4, 4]), 8).tolist() == [0, 0, 1, 1, 2]


def test_examples_of_full_length_fill_a_row_each() -> None:
    assert pack(np.array([8, 8, 8]), 8).tolist() == [0, 1, 2]
