"""Conversations as the checks read them: a row for each answer, and each record from its rows.

Knows conversations and Arrow arrays, and no defect. The rows are derived once, and take about as
much space as the texts themselves.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dolly_assets.conversations import Conversation, Message
from dolly_assets.conversations.tables import conversations
from dolly_assets.datasets.quality.arrow import kernels, line_break
from dolly_assets.storage.large_tables import TableWriter

COLUMNS = ("system", "before", "instruction", "context", "response", "after")
SCHEMA = pa.schema([(name, pa.large_string()) for name in COLUMNS])
"""Of an answer: the system prompt and the results of tools before it, the user's text and its
context since the last answer, the answer, and beside it its reasoning and the calls."""
PIECE_ROWS = 10_000


class Whole(NamedTuple):
    """Records as wholes: the texts before the last answer, that answer, and all answers."""

    system: pa.Array
    prompt: pa.Array
    response: pa.Array
    after: pa.Array
    answers: pa.Array


class Turns(NamedTuple):
    """The answers of all records.

    Attributes:
        rows: A row for each answer, with SCHEMA; at least one for each record.
        starts: The first row of each record, and at the end the number of rows.
    """

    rows: pa.Table
    starts: np.ndarray

    def numbers(self) -> np.ndarray:
        """Return the record of each row."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def whole(self, first: int, records: int) -> Whole:
        """Return some consecutive records."""
        starts = self.starts[first : first + records + 1]
        rows = self.rows.slice(starts[0], starts[-1] - starts[0]).combine_chunks()
        texts = {name: _one(rows[name]) for name in COLUMNS}
        offsets = pa.array(starts - starts[0], pa.int64())
        last = pa.array(starts[1:] - starts[0] - 1, pa.int64())
        asked = _joined(texts, ("before", "instruction", "context"))
        said = kernels.binary_join_element_wise(
            asked, texts["response"], texts["after"], line_break()
        )
        is_last = np.zeros(len(asked), dtype=bool)
        is_last[last.to_numpy()] = True
        return Whole(
            _by_record(texts["system"], offsets),
            _by_record(kernels.if_else(pa.array(is_last), asked, said), offsets),
            texts["response"].take(last),
            texts["after"].take(last),
            _by_record(texts["response"], offsets),
        )


def turns_of(table: pa.Table) -> Turns:
    """Return the answers of a table of conversations."""
    written, rows, starts = TableWriter(SCHEMA), list[tuple[str, ...]](), [0]
    done = 0
    for conversation in conversations(table):
        rows += _rows(conversation)
        starts.append(done + len(rows))
        if len(rows) >= PIECE_ROWS:
            written.write(_piece(rows))
            done, rows = done + len(rows), []
    if rows:
        written.write(_piece(rows))
    return Turns(written.table(), np.array(starts))


def called(message: Message) -> str:
    """Return the calls of a message as text."""
    return "\n".join(call.text for call in message.tool_calls)


def _rows(conversation: Conversation) -> Iterator[tuple[str, ...]]:
    said: dict[str, list[str]] = {name: [] for name in COLUMNS}
    of_role = {"system": "system", "user": "instruction", "tool": "before"}
    is_open = True
    for message in conversation.messages:
        is_open = message.role != "assistant"
        if is_open:
            said[of_role[message.role]].append(message.content)
            said["context"].append(message.context)
            continue
        said["response"].append(message.content)
        said["after"] += [message.reasoning, called(message)]
        yield _texts(said)
        said = {name: [] for name in COLUMNS}
    if is_open:  # it ends without an answer, or is empty
        yield _texts(said)


def _texts(said: dict[str, list[str]]) -> tuple[str, ...]:
    return tuple("\n".join(filter(None, said[name])) for name in COLUMNS)


def _piece(rows: list[tuple[str, ...]]) -> pa.RecordBatch:
    columns = [pa.array(texts, pa.large_string()) for texts in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _joined(texts: dict[str, pa.Array], names: tuple[str, ...]) -> pa.Array:
    return kernels.binary_join_element_wise(*(texts[name] for name in names), line_break())


def _by_record(texts: pa.Array, offsets: pa.Array) -> pa.Array:
    """Return the texts of each record's rows as one."""
    return kernels.binary_join(pa.LargeListArray.from_arrays(offsets, texts), line_break())


def _one(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
