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
    Pair,
    candidate_pairs,
    likely_pairs,
    shingles_of,
    signatures_of,
    similar_pairs,
)
from dolly_assets.datasets.quality.records import Batch, Records, words_of

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

    The signatures of all records are held in memory (256 bytes each), but only the words of one
    batch, or of the likely pairs.

    Args:
        records: The records to compare.
        text_of: Which text of a record is compared.
        is_query: Which records are queries, as in `minhash.candidate_pairs`; None for no queries.
    """
    signatures = np.concatenate(
        [signatures_of(shingles_of(words_of(text_of(b)))) for b in records.batches()]
    )
    pairs = likely_pairs(signatures, candidate_pairs(signatures, is_query))
    for part in np.array_split(pairs, len(pairs) // 10_000 + 1):
        involved, places = np.unique(part, return_inverse=True)
        shingles = shingles_of(words_of(text_of(records.take(involved))))
        for pair in similar_pairs(places.reshape(part.shape), shingles):
            yield Pair(int(involved[pair.earlier]), int(involved[pair.later]), pair.similarity)


def _repeated(records: Records) -> Iterator[tuple[int, int]]:
    """Yield the number of each record that repeats one, and the number of the first like it."""
    first: dict[bytes, int] = {}
    for batch in records.batches():
        columns = (column.to_pylist() for column in batch.texts)
        for record, texts in enumerate(zip(*columns, strict=True), batch.first):
            key = hashlib.blake2b(
                "\x1f".join(text.strip() for text in texts).encode(), digest_size=16
            ).digest()
            earlier = first.setdefault(key, record)
            if earlier != record:
                yield record, earlier
