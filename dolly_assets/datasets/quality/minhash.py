"""Texts that are nearly the same: MinHash signatures of their word triples, banded, and every pair then verified.

A. Broder, "On the resemblance and containment of documents" (1997); bands as in Leskovec, Rajaraman
and Ullman, "Mining of Massive Datasets", section 3.4. It knows word hashes; what a text is made of
is the caller's business.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dolly_assets.datasets.quality.records import Words

SIMILAR = 0.8
"""Jaccard similarity of the two sets of word triples from which texts count as nearly the same."""

WORDS_PER_SHINGLE = 3
BANDS, ROWS_PER_BAND = (
    16,
    4,
)  # a pair of similarity s meets in a band with 1 - (1 - s**4)**16: 0.9998 at 0.8
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
        """The distinct ones of a text."""
        return np.unique(self.hashes[self.starts[text] : self.starts[text + 1]])


class Pair(NamedTuple):
    """Two texts by their places, and how similar they are."""

    earlier: int
    later: int
    similarity: float


def shingles_of(words: Words) -> Shingles:
    """Every three words in a row; a text of one or two words has one shingle, a text of none has none."""
    lengths = np.diff(words.starts)
    counts = np.where(lengths > 0, np.maximum(1, lengths - (WORDS_PER_SHINGLE - 1)), 0)
    starts = np.concatenate([[0], np.cumsum(counts)])
    first = np.arange(starts[-1]) + np.repeat(words.starts[:-1] - starts[:-1], counts)
    last = np.repeat(words.starts[1:] - 1, counts)
    hashes, word_hashes = np.zeros(len(first), dtype=np.uint64), words.hashes
    for place, factor in enumerate(_MIX):
        hashes = (hashes ^ word_hashes[np.minimum(first + place, last)]) * factor
        hashes ^= hashes >> np.uint64(31)
    return Shingles(hashes, starts)


def signatures_of(shingles: Shingles) -> np.ndarray:
    """uint32 of shape (texts, HASHES); all zero for a text without shingles, which is similar to none."""
    filled = np.diff(shingles.starts) > 0
    signatures = np.zeros((len(filled), HASHES), dtype=np.uint32)
    if not filled.any():
        return signatures
    starts, hashed = shingles.starts[:-1][filled], np.empty_like(shingles.hashes)
    least = np.empty((HASHES, len(starts)), dtype=np.uint64)
    for row, (factor, term) in enumerate(zip(_FACTORS, _TERMS, strict=True)):
        np.multiply(shingles.hashes, factor, out=hashed)
        hashed += term
        np.minimum.reduceat(hashed, starts, out=least[row])
    signatures[filled] = (least >> np.uint64(32)).T
    return signatures


def candidate_pairs(signatures: np.ndarray, is_query: np.ndarray | None = None) -> np.ndarray:
    """Pairs that may be similar, as int64 of shape (pairs, 2), each once.

    In a band, every text is paired with the first that shares its hashes, so that a thousand copies
    are a thousand pairs. With `is_query` each query is paired with the first text that is none.
    """
    queries = np.zeros(len(signatures), dtype=bool) if is_query is None else is_query
    members = np.ones(len(signatures), dtype=bool) if is_query is None else is_query
    found = [np.empty((0, 2), dtype=np.int64)]
    for band in np.split(signatures.astype(np.uint64), BANDS, axis=1):
        keys = np.zeros(len(band), dtype=np.uint64)
        for column in band.T:
            keys = (keys ^ column) * _MIX[0]
            keys ^= keys >> np.uint64(29)
        order = np.lexsort((queries, keys))  # stable: by place within equal keys
        begins = np.concatenate([[True], keys[order][1:] != keys[order][:-1]])
        firsts = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
        is_pair = (firsts != order) & ~queries[firsts] & members[order]
        found.append(np.stack([firsts[is_pair], order[is_pair]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def likely_pairs(signatures: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Those pairs whose signatures do not rule out that they are similar."""
    likely = [
        (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1) >= SIMILAR - ESTIMATE_MARGIN
        for part in np.array_split(pairs, len(pairs) // 10_000 + 1)
    ]
    return pairs[np.concatenate(likely)]


def similar_pairs(pairs: np.ndarray, shingles: Shingles) -> Iterator[Pair]:
    """Those pairs that are similar, by their whole sets of shingles."""
    for earlier, later in pairs.tolist():
        one, other = shingles.of(earlier), shingles.of(later)
        common = len(np.intersect1d(one, other, assume_unique=True))
        similarity = common / max(1, len(one) + len(other) - common)
        if similarity >= SIMILAR:
            yield Pair(earlier, later, similarity)
