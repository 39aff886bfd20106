"""Texts that share a sequence of words with the records of a dataset.

The measure is that of Brown et al., "Language Models are Few-Shot Learners" (2020,
https://arxiv.org/abs/2005.14165, appendix C): 13 consecutive words, without case and punctuation.
A shorter text is compared as a whole. Knows texts; which of them are compared is the caller's
business.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from dolly_assets.datasets.quality.minhash import shingles_of
from dolly_assets.datasets.quality.records import Records, Words, words_of

SHARED_WORDS = 13
LEAST_WORDS = 4
"""A text of fewer words is in many records by chance, and not compared."""


def overlapping(texts: Sequence[str], records: Records) -> np.ndarray:
    """Return for each text whether a record holds 13 consecutive words of it, or all of its words.

    Only the words of one batch of records are in memory.
    """
    asked = words_of(pa.array(texts, pa.large_string()))
    sizes = np.minimum(np.diff(asked.starts), SHARED_WORDS)
    wanted = {
        int(size): _sequences(asked, int(size), sizes == size)
        for size in np.unique(sizes[sizes >= LEAST_WORDS])
    }
    found = {size: np.zeros(len(hashes), bool) for size, (hashes, _) in wanted.items()}
    for batch in records.batches():
        known = words_of(batch.everything)
        is_long = np.diff(known.starts)
        for size, (hashes, _) in wanted.items():
            present, _ = _sequences(known, size, is_long >= size)
            found[size] |= np.isin(hashes, present)
    is_shared = np.zeros(len(texts), bool)
    for size, (_, places) in wanted.items():
        is_shared[places[found[size]]] = True
    return is_shared


def _sequences(words: Words, size: int, is_meant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of the word sequences of some texts, and the place of each one's text."""
    shingles = shingles_of(words, size)
    places = np.repeat(np.arange(len(is_meant)), np.diff(shingles.starts))
    is_kept = is_meant[places]
    return shingles.hashes[is_kept], places[is_kept]
