"""Texts that are nearly the same, by MinHash signatures in bands; every pair is then verified.

A. Broder, "On the resemblance and containment of documents" (1997); bands as in Leskovec, Rajaraman
and Ullman, "Mining of Massive Datasets", section 3.4. Knows word hashes; which text of a record
they come from is the caller's business.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dolly_assets.datasets.quality.records import Words

SIMILAR = 0.8
"""Least Jaccard similarity of two sets of word triples whose texts count as nearly the same."""

WORDS_PER_SHINGLE = 3
# A pair of similarity s shares a band with probability 1 - (1 - s**4)**16: 0.9998 at 0.8.
BANDS, ROWS_PER_BAND = 16, 4
HASHES = BANDS * ROWS_PER_BAND
ESTIMATE_MARGIN = 0.2  # some four standard deviations of the estimate from 64 hashes at 0.8
_RNG = np.random.default_rng(0)
_FACTORS = _RNG.integers(1, 2**63, HASHES, dtype=np.uint64) | np.uint64(1)
_TERMS = _RNG.integers(0, 2**63, HASHES, dtype=np.uint64)
_MIX = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64
)  # of splitmix64


class Shingles(NamedTuple):
    """Hashes of word triples; those of text i are `hashes[starts[i]:starts[i + 1]]`."""

    hashes: np.ndarray
    starts: np.ndarray

    def of(self, text: int) -> np.ndarray:
        """Return the distinct hashes of a text."""
        return np.unique(self.hashes[self.starts[text] : self.starts[text + 1]])


class Pair(NamedTuple):
    """Two texts by their places, and how similar they are."""

    earlier: int
    later: int
    similarity: float


def shingles_of(words: Words, size: int = WORDS_PER_SHINGLE) -> Shingles:
    """Hash every `size` consecutive words; a text of fewer words has one shingle."""
    lengths = np.diff(words.starts)
    counts = np.where(lengths > 0, np.maximum(1, lengths - (size - 1)), 0)
    starts = np.concatenate([[0], np.cumsum(counts)])
    first = np.arange(starts[-1]) + np.repeat(words.starts[:-1] - starts[:-1], counts)
    last = np.repeat(words.starts[1:] - 1, counts)
    # A shingle that would run past the end of its text repeats the last word.
    hashes, word_hashes = np.zeros(len(first), dtype=np.uint64), words.hashes
    for place in range(size):
        factor = _MIX[place % len(_MIX)]
        hashes = (hashes ^ word_hashes[np.minimum(first + place, last)]) * factor
        hashes ^= hashes >> np.uint64(31)
    return Shingles(hashes, starts)


def signatures_of(shingles: Shingles) -> np.ndarray:
    """Return the signatures: uint32 of shape (texts, HASHES).

    The signature of a text without shingles, which is similar to no other, is all zeros.
    """
    filled = np.diff(shingles.starts) > 0
    signatures = np.zeros((len(filled), HASHES), dtype=np.uint32)
    if not filled.any():
        return signatures
    starts, hashed = shingles.starts[:-1][filled], np.empty_like(shingles.hashes)
    least = np.empty((HASHES, len(starts)), dtype=np.uint64)
    # A row is the least multiply-add hash of a text's shingles; the high bits are mixed best.
    for row, (factor, term) in enumerate(zip(_FACTORS, _TERMS, strict=True)):
        np.multiply(shingles.hashes, factor, out=hashed)
        hashed += term
        np.minimum.reduceat(hashed, starts, out=least[row])
    signatures[filled] = (least >> np.uint64(32)).T
    return signatures


def band_keys(signatures: np.ndarray) -> np.ndarray:
    """Return a hash of each band of each signature: uint64 of shape (BANDS, texts)."""
    keys = np.zeros((BANDS, len(signatures)), dtype=np.uint64)
    columns_of = np.split(signatures.astype(np.uint64), BANDS, axis=1)
    for band, columns in zip(keys, columns_of, strict=True):
        for column in columns.T:
            band ^= column
            band *= _MIX[0]
            band ^= band >> np.uint64(29)
    return keys


def candidate_pairs(keys: np.ndarray, is_query: np.ndarray | None = None) -> np.ndarray:
    """Return the pairs that may be similar, each once: int64 of shape (pairs, 2).

    In a band, every text is paired with the first one that has the same hashes, so that a thousand
    copies make a thousand pairs, not half a million. One band is sorted at a time.

    Args:
        keys: The hashes of all texts' bands, as `band_keys` returns them.
        is_query: Which texts are queries; each is paired only with the first text that is not one.
    """
    queries = np.zeros(keys.shape[1], dtype=bool) if is_query is None else is_query
    members = np.ones(keys.shape[1], dtype=bool) if is_query is None else is_query
    found = [np.empty((0, 2), dtype=np.int64)]
    for band in keys:
        order = np.lexsort((queries, band))  # stable: by place within equal keys
        ordered = band[order]
        begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        firsts = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
        is_pair = (firsts != order) & ~queries[firsts] & members[order]
        found.append(np.stack([firsts[is_pair], order[is_pair]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def likely_pairs(signatures: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the pairs whose signatures do not rule out that they are similar."""
    likely = [
        (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1) >= SIMILAR - ESTIMATE_MARGIN
        for part in np.array_split(pairs, len(pairs) // 10_000 + 1)
    ]
    return pairs[np.concatenate(likely)]


def similar_pairs(pairs: np.ndarray, shingles: Shingles) -> Iterator[Pair]:
    """Yield the pairs that are similar, compared by all their shingles."""
    for earlier, later in pairs.tolist():
        one, other = shingles.of(earlier), shingles.of(later)
        common = len(np.intersect1d(one, other, assume_unique=True))
        similarity = common / max(1, len(one) + len(other) - common)
        if similarity >= SIMILAR:
            yield Pair(earlier, later, similarity)
