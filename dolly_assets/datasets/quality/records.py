"""The records as checks read them: Arrow arrays of texts in batches, and their words as numbers.

A conversation is read as a whole, or answer by answer; a single exchange is the same in both ways.
Knows the canonical columns, and no defect.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dolly_assets.conversations import Conversation
from dolly_assets.conversations.tables import (
    EXCHANGE_SCHEMA,
    conversations,
    holds_conversations,
)
from dolly_assets.datasets.quality.arrow import kernels, line_break
from dolly_assets.datasets.quality.turns import Turns, turns_of
from dolly_assets.storage.large_tables import select_rows

BATCH_RECORDS = 10_000  # what is derived from a batch takes some 100 MB
TEXT_COLUMNS = ("instruction", "context", "response")
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
    """Some consecutive records, or some answers of conversations.

    Attributes:
        first: The number of the first record.
        instruction: What is asked; of a whole conversation all that precedes its last answer.
        context: What it is about.
        response: The answer.
        system: The system prompts of conversations.
        beside: What else conversations hold: results before an answer, reasoning, calls.
        tools: The tools of whole conversations.
        replies: All answers of whole conversations.
        numbers: The record of each row, where rows are answers.
    """

    first: int
    instruction: pa.Array
    context: pa.Array
    response: pa.Array
    system: pa.Array | None = None
    beside: tuple[pa.Array, ...] = ()
    tools: pa.Array | None = None
    replies: pa.Array | None = None
    numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.response)

    def places(self, is_meant: np.ndarray) -> list[int]:
        """Return the numbers of those records of this batch that are meant, among all records."""
        found = np.flatnonzero(is_meant[self.first : self.first + len(self)])
        return (self.first + found).tolist()

    @cached_property
    def prompt(self) -> pa.Array:
        """Instruction and context."""
        return kernels.binary_join_element_wise(self.instruction, self.context, line_break())

    @cached_property
    def whole_prompt(self) -> pa.Array:
        """The prompt below the system prompt and the tools."""
        above = [each for each in (self.system, self.tools) if each is not None]
        if not above:
            return self.prompt
        return kernels.binary_join_element_wise(*above, self.prompt, line_break())

    @cached_property
    def example(self) -> pa.Array:
        """Prompt and response, and what is beside them; without the system prompt."""
        return kernels.binary_join_element_wise(
            self.prompt, self.response, *self.beside, line_break()
        )

    @cached_property
    def everything(self) -> pa.Array:
        """The example below its system prompt."""
        if self.system is None:
            return self.example
        return kernels.binary_join_element_wise(self.system, self.example, line_break())

    @property
    def answers(self) -> pa.Array:
        """All that the assistant answers in a record."""
        return self.response if self.replies is None else self.replies

    @property
    def texts(self) -> tuple[pa.Array, ...]:
        """The texts in which records that differ do."""
        of_conversations = [each for each in (self.system, self.tools) if each is not None]
        return self.instruction, self.context, self.response, *self.beside, *of_conversations

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
            number = self.first + place if self.numbers is None else self.numbers[place]
            yield int(number), texts[int(place)].as_py()


@dataclass(frozen=True)
class Records:
    """A canonical table, of either kind, that passed the check of its schema."""

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def of_conversations(self) -> Turns | None:
        """The answers of conversations; None if the records are single exchanges."""
        return turns_of(self.table) if holds_conversations(self.table) else None

    @property
    def answers_count(self) -> int:
        """The number of answers in all records."""
        return self.of_conversations.rows.num_rows if self.of_conversations else len(self)

    def batches(self) -> Iterator[Batch]:
        """Yield all records, in order."""
        for first in range(0, len(self), BATCH_RECORDS):
            rows = self.table.slice(first, BATCH_RECORDS)
            if turns := self.of_conversations:
                yield _whole(first, rows, turns)
            else:
                yield _exchanges(first, rows)

    def answers(self) -> Iterator[Batch]:
        """Yield all records, of conversations each answer with what precedes it."""
        if not (turns := self.of_conversations):
            yield from self.batches()
            return
        numbers = turns.numbers()
        for first in range(0, turns.rows.num_rows, BATCH_RECORDS):
            rows = turns.rows.slice(first, BATCH_RECORDS).combine_chunks()
            system, before, *exchange, after = (_one_chunk(column) for column in rows.columns)
            yield Batch(
                first,
                *exchange,
                system=system,
                beside=(before, after),
                numbers=numbers[first : first + BATCH_RECORDS],
            )

    def exchanges(self) -> tuple[pa.Table, np.ndarray]:
        """Return each question with its answer as a single exchange, and the record of each."""
        if not (turns := self.of_conversations):
            return self.table.select(EXCHANGE_SCHEMA.names), np.arange(len(self))
        rows = turns.rows.select(TEXT_COLUMNS)
        empty = pa.repeat(pa.scalar("", pa.large_string()), rows.num_rows)
        return rows.append_column("category", empty).cast(EXCHANGE_SCHEMA), turns.numbers()

    def conversations(self) -> Iterator[Conversation]:
        """Yield the records of a table of conversations; nothing of one of exchanges."""
        return conversations(self.table) if holds_conversations(self.table) else iter(())

    def take(self, records: Sequence[int] | np.ndarray) -> Batch:
        """Return some records in the given order; their numbers are lost."""
        rows = select_rows(self.table, np.asarray(records, np.int64))
        return _whole(0, rows, turns_of(rows)) if self.of_conversations else _exchanges(0, rows)


def _exchanges(first: int, rows: pa.Table) -> Batch:
    columns = rows.select(TEXT_COLUMNS).cast(
        pa.schema([(name, pa.large_string()) for name in TEXT_COLUMNS])
    )
    return Batch(first, *(column.combine_chunks() for column in columns.columns))


def _whole(first: int, rows: pa.Table, turns: Turns) -> Batch:
    whole = turns.whole(first, rows.num_rows)
    return Batch(
        first,
        whole.prompt,
        pa.repeat(pa.scalar("", pa.large_string()), len(whole.prompt)),
        whole.response,
        system=whole.system,
        beside=(whole.after,),
        tools=rows["tools"].cast(pa.large_string()).combine_chunks(),
        replies=whole.answers,
    )


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
