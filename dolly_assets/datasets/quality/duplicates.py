"""Records that repeat an earlier one exactly or nearly, in a dataset or across a split.

Knows which texts are compared; how similar texts are found is the business of `minhash`.
"""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from dolly_assets.core.text import percent
from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, finding
from dolly_assets.datasets.quality.minhash import (
    BANDS,
    HASHES,
    Pair,
    band_keys,
    candidate_pairs,
    likely_pairs,
    shingles_of,
    signatures_of,
    similar_pairs,
)
from dolly_assets.datasets.quality.records import Batch, Records, words_of
from dolly_assets.storage.large_tables import empty_array

TextOf = Callable[[Batch], pa.Array]


def duplicates(records: Records) -> tuple[QualityFinding, QualityFinding]:
    """Find exact duplicates, and near ones that are not exact.

    White space at the ends of a text makes no difference.
    """
    exact = dict(_repeated(records))
    near = {
        pair.later: pair
        for pair in near_pairs(records, lambda batch: batch.example)
        if pair.later not in exact
    }
    return (
        finding(
            "exact_duplicates",
            len(records),
            (
                FlaggedRecord(record=later, kind="repeated", excerpt=f"record {earlier}")
                for later, earlier in exact.items()
            ),
        ),
        finding(
            "near_duplicates",
            len(records),
            (
                FlaggedRecord(
                    record=later,
                    kind="similar",
                    excerpt=f"{percent(pair.similarity)} of record {pair.earlier}",
                )
                for later, pair in sorted(near.items())
            ),
        ),
    )


def near_pairs(
    records: Records, text_of: TextOf, is_query: np.ndarray | None = None
) -> Iterator[Pair]:
    """Yield pairs of records whose texts are nearly the same.

    Signatures and hashes of all records (384 bytes each) are in a file, and in memory one band of
    them, and the words of one batch or of the likely pairs.

    Args:
        records: The records to compare.
        text_of: Which text of a record is compared.
        is_query: Which records are queries, as in `minhash.candidate_pairs`; None for no queries.
    """
    signatures = empty_array((len(records), HASHES), np.uint32)
    keys = empty_array((BANDS, len(records)), np.uint64)
    for batch in records.batches():
        place = slice(batch.first, batch.first + len(batch))
        signatures[place] = signatures_of(shingles_of(words_of(text_of(batch))))
        keys[:, place] = band_keys(signatures[place])
    pairs = likely_pairs(signatures, candidate_pairs(keys, is_query))
    for part in np.array_split(pairs, len(pairs) // 10_000 + 1):
        involved, places = np.unique(part, return_inverse=True)
        shingles = shingles_of(words_of(text_of(records.take(involved))))
        for pair in similar_pairs(places.reshape(part.shape), shingles):
            yield Pair(int(involved[pair.earlier]), int(involved[pair.later]), pair.similarity)


def _repeated(records: Records) -> Iterator[tuple[int, int]]:
    """Yield the number of each record that repeats one, and the number of the first like it."""
    digests = empty_array((len(records), 2), np.uint64)
    for batch in records.batches():
        columns = (column.to_pylist() for column in batch.texts)
        made = b"".join(map(_digest, zip(*columns, strict=True)))
        place = slice(batch.first, batch.first + len(batch))
        digests[place] = np.frombuffer(made, np.uint64).reshape(-1, 2)
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: by number within equal ones
    begins = np.any(np.diff(digests[order], axis=0, prepend=~digests[order[:1]]) != 0, axis=1)
    firsts = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
    later = np.flatnonzero(firsts != order)
    by_number = later[np.argsort(order[later])]
    yield from zip(order[by_number].tolist(), firsts[by_number].tolist(), strict=True)


def _digest(texts: tuple[str, ...]) -> bytes:
    text = "\x1f".join(text.strip() for text in texts)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
