"""Records that repeat an earlier one, exactly or nearly, and the same between two sides of a split."""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

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
    """Exact ones, white space at the ends apart; and near ones, that are not exact ones."""
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
                    excerpt=f"{pair.similarity:.0%} of record {pair.earlier}",
                )
                for later, pair in sorted(near.items())
            ),
        ),
    )


def near_pairs(
    records: Records, text_of: TextOf, is_query: np.ndarray | None = None
) -> Iterator[Pair]:
    """Pairs of records whose texts are nearly the same; see `minhash.candidate_pairs` for queries.

    Signatures of all records are held (256 bytes each), the words of a batch or of the likely pairs
    only.
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
    """The number of each record that repeats one, and that of the first such."""
    first: dict[bytes, int] = {}
    for batch in records.batches():
        columns = (
            column.to_pylist() for column in (batch.instruction, batch.context, batch.response)
        )
        for record, texts in enumerate(zip(*columns, strict=True), batch.first):
            key = hashlib.blake2b(
                "\x1f".join(text.strip() for text in texts).encode(), digest_size=16
            ).digest()
            earlier = first.setdefault(key, record)
            if earlier != record:
                yield record, earlier
