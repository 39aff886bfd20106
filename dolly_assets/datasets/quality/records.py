"""The records as checks read them: Arrow arrays of texts in batches, and their words as numbers.

Knows the canonical columns, and no defect.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

BATCH_RECORDS = 10_000  # what is derived from a batch takes some 100 MB
TEXT_COLUMNS = ("instruction", "context", "response")
kernels: Any = pyarrow.compute  # its functions are created at run time, unseen by type checkers
NOT_OF_A_WORD = r"[^\p{L}\p{M}\p{N}]+"
WRITTEN_WITHOUT_SPACES = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"


class Words(NamedTuple):
    """The words of some texts, in lower case: a dictionary, and each word's place in it.

    The words of text i are `codes[starts[i]:starts[i + 1]]`.
    """

    dictionary: list[str]
    codes: np.ndarray
    starts: np.ndarray

    @property
    def hashes(self) -> np.ndarray:
        """A 64-bit hash of every word; equal words have equal hashes in all batches."""
        digests = b"".join(
            hashlib.blake2b(word.encode(), digest_size=8).digest() for word in self.dictionary
        )
        return np.frombuffer(digests, dtype=np.uint64)[self.codes]


def _line_break() -> pa.Scalar:
    """Return a line break; a scalar is created when it is needed, since that loads pandas."""
    return pa.scalar("\n", pa.large_string())


def words_of(texts: pa.Array) -> Words:
    """Split texts into words.

    A word is a run of letters and digits, or a single character in scripts without spaces.
    """
    cleaned = kernels.replace_substring_regex(kernels.utf8_lower(texts), NOT_OF_A_WORD, " ")
    if kernels.any(kernels.match_substring_regex(cleaned, WRITTEN_WITHOUT_SPACES)).as_py():
        cleaned = kernels.replace_substring_regex(cleaned, WRITTEN_WITHOUT_SPACES, r" \1 ")
    lists = kernels.utf8_split_whitespace(kernels.utf8_trim_whitespace(cleaned))
    words = lists.flatten().dictionary_encode()
    codes, starts = words.indices.to_numpy(), lists.offsets.to_numpy().astype(np.int64)
    starts -= starts[0]
    return _without_empty(words.dictionary.to_pylist(), codes, starts)


def _without_empty(dictionary: list[str], codes: np.ndarray, starts: np.ndarray) -> Words:
    """Remove the empty word into which a text without words is split."""
    if "" not in dictionary:
        return Words(dictionary, codes, starts)
    kept = codes != dictionary.index("")
    return Words(dictionary, codes[kept], np.concatenate([[0], np.cumsum(kept)])[starts])


@dataclass(frozen=True)
class Batch:
    """Some consecutive records."""

    first: int
    instruction: pa.Array
    context: pa.Array
    response: pa.Array

    def __len__(self) -> int:
        return len(self.response)

    @cached_property
    def prompt(self) -> pa.Array:
        """Instruction and context."""
        return kernels.binary_join_element_wise(self.instruction, self.context, _line_break())

    @cached_property
    def example(self) -> pa.Array:
        """Prompt and response."""
        return kernels.binary_join_element_wise(self.prompt, self.response, _line_break())

    def matching(
        self, texts: pa.Array, pattern: str, *, ignore_case: bool = False
    ) -> Iterator[tuple[int, str]]:
        """Yield record number and text of those texts that match a pattern.

        Args:
            texts: One of this batch's arrays.
            pattern: The pattern, in the syntax of RE2.
            ignore_case: Whether case makes no difference.
        """
        matches = kernels.match_substring_regex(texts, pattern, ignore_case=ignore_case)
        for place in np.flatnonzero(matches.to_numpy(zero_copy_only=False)):
            yield self.first + int(place), texts[int(place)].as_py()


@dataclass(frozen=True)
class Records:
    """A canonical table that passed the check of its schema."""

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def batches(self) -> Iterator[Batch]:
        """Yield all records, in order."""
        for first in range(0, len(self), BATCH_RECORDS):
            yield self._batch(first, self.table.slice(first, BATCH_RECORDS))

    def take(self, records: Sequence[int] | np.ndarray) -> Batch:
        """Return some records in the given order; their numbers are lost."""
        return self._batch(0, self.table.take(pa.array(records, pa.int64())))

    def _batch(self, first: int, rows: pa.Table) -> Batch:
        columns = rows.select(TEXT_COLUMNS).cast(
            pa.schema([(name, pa.large_string()) for name in TEXT_COLUMNS])
        )
        return Batch(first, *(column.combine_chunks() for column in columns.columns))
