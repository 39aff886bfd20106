"""The ranks by which tiktoken merges bytes exactly as a list of pairs does in BPE.

BPE merges the pair of neighbours that is first in its list, the leftmost of several; tiktoken
merges the two neighbours whose bytes together are the token of lowest rank, the leftmost of
several. Neither merges across the boundaries of a word.

Look at a token at the moment when it is formed. Nothing was merged across its two ends so far, so
that what happened between them is what happens to its bytes alone, step by step: the choice among
all neighbours is also the choice among those between the ends. Hence each token is only ever formed
from one pair, the one that its bytes alone are merged by last, and where these bytes end as several
tokens, it is never formed. That is so in both.

`last_pairs` finds that pair for every token, by merging its bytes by the list. The ranks of the
tokens are the places of these pairs; tokens that are never formed have none. Then both give the
same result. Suppose that they form all tokens shorter than T from the same pairs. They merge the
bytes of T alike, then, until T itself or nothing is left to form: each step is the lowest of the
same pairs in the same order. The list forms T at the end only if it has that pair, and then T has a
rank; tiktoken forms T from any two that are left, if T has a rank. So these are the same pair too.

A word that as a whole is a token is looked up by tiktoken without merging. For a token with such a
rank that makes no difference: its bytes are merged down to it. If the tokenizer looks words up as
well (`ignore_merges`), all tokens need ranks, and those that are never formed get the highest. Such
a token stays unformed in tiktoken too if its bytes alone end as three tokens or more.
"""

from collections.abc import Sequence

import numpy as np

NO_PAIR = np.iinfo(np.int64).max


def last_pairs(
    words: Sequence[bytes], pairs: np.ndarray, forms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Merge the bytes of each word alone, by a list of pairs.

    Args:
        words: The bytes of each token, at least two.
        pairs: The list, shape (pairs, 2). Numbers below 256 are bytes, 256 + i is word i, and
            negative numbers are never met.
        forms: The number of the token that each pair forms.

    Returns:
        For each word, the place in the list of the pair that it is merged by last, and the number
        of tokens that are left, 1 if it is merged down to a single one.
    """
    keys = pairs[:, 0] << 32 | pairs[:, 1]
    # Of a pair that is listed twice, the last place counts, as in a mapping.
    order = np.lexsort((-np.arange(len(keys)), keys))
    lengths = np.array([len(word) for word in words], np.int64)
    places, left = np.full(len(words), -1), lengths.copy()
    if not len(pairs):
        return places, left
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        joined = b"".join(words[place] for place in chosen.tolist())
        rows = np.frombuffer(joined, np.uint8).reshape(-1, length).astype(np.int64)
        places[chosen], left[chosen] = _merged_down(rows, keys[order], order, forms)
    return places, left


def _merged_down(
    rows: np.ndarray, sorted_keys: np.ndarray, order: np.ndarray, forms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Merge words of one length; each turn of the loop is one merge of every word."""
    last, left = np.full(len(rows), -1), np.full(len(rows), rows.shape[1])
    is_open = np.arange(len(rows))
    while len(rows) and rows.shape[1] > 1:
        keys = rows[:, :-1] << 32 | rows[:, 1:]
        found = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
        places = np.where(sorted_keys[found] == keys, order[found], NO_PAIR)
        at = places.argmin(axis=1)  # the leftmost of the lowest
        place = places[np.arange(len(rows)), at]
        goes_on = place < NO_PAIR
        rows, at, place, is_open = rows[goes_on], at[goes_on], place[goes_on], is_open[goes_on]
        rows[np.arange(len(rows)), at] = forms[place]
        is_kept = np.arange(rows.shape[1]) != at[:, None] + 1
        rows = rows[is_kept].reshape(len(rows), rows.shape[1] - 1)
        last[is_open], left[is_open] = place, rows.shape[1]
    return last, left
