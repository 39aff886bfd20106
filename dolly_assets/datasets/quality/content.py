"""Whether there is anything to learn from: columns, empty texts, and lengths far above all others.

Knows columns and lengths, not what a text means.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from dolly_assets.conversations import Conversation
from dolly_assets.conversations.tables import holds_conversations, schema_of
from dolly_assets.datasets.quality.arrow import kernels
from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Records

NO_VISIBLE_CHARACTER = r"^[\p{Z}\p{C}]*$"  # white space, control characters, zero-width ones
FAR = 4  # times the 99th percentile of lengths


def schema(table: pa.Table) -> QualityFinding:
    """Check columns, types, nulls and UTF-8, messages, and that there is a record."""
    problems = []
    if table.num_rows == 0:
        problems.append(
            FlaggedRecord(record=0, kind="no records", excerpt="a dataset needs at least one")
        )
    for name in schema_of(table).names:
        problems += _of_column(table, name)
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        problems.append(FlaggedRecord(record=0, kind="damaged", excerpt=excerpt(str(error))))
    if not problems and holds_conversations(table):
        problems += _unreadable(table)
    return finding("schema", table.num_rows, problems)


def _of_column(table: pa.Table, name: str) -> Iterator[FlaggedRecord]:
    """Yield what is wrong with a column of strings."""
    if name not in table.column_names:
        found = ", ".join(table.column_names)
        yield FlaggedRecord(record=0, kind=f"no column {name}", excerpt=found)
    elif table.schema.field(name).type != pa.string():
        found = str(table.schema.field(name).type)
        yield FlaggedRecord(record=0, kind=f"{name} is not a string", excerpt=found)
    else:
        for row in np.flatnonzero(kernels.is_null(table[name]).to_numpy()):
            yield FlaggedRecord(record=int(row), kind=f"no {name}", excerpt="null")


def _unreadable(table: pa.Table) -> Iterator[FlaggedRecord]:
    """Yield the records whose messages or tools are not those of a conversation."""
    record = 0
    for batch in table.select(["messages", "tools"]).to_batches(max_chunksize=1024):
        for messages, tools in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            try:
                if not Conversation.from_json(messages, tools, "", "", "").messages:
                    raise ValueError("no messages")
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                yield FlaggedRecord(
                    record=record, kind="messages that cannot be read", excerpt=excerpt(str(error))
                )
            record += 1


def empty(records: Records) -> QualityFinding:
    """Find instructions and responses without a visible character."""
    hits = (
        FlaggedRecord(record=record, kind=f"empty {name}", excerpt=excerpt(text))
        for batch in records.batches()
        for name in ("instruction", "response")
        for record, text in batch.matching(getattr(batch, name), NO_VISIBLE_CHARACTER)
    )
    return finding("empty", len(records), hits)


def length_outliers(records: Records) -> QualityFinding:
    """Find texts that are more than FAR times as long as the 99th percentile, in characters.

    Conversations are compared by their answers as well. Short ones are not defects: a short
    response may be right.
    """
    hits = list[FlaggedRecord]()
    for name in ("instruction", "context", "response"):
        lengths = [kernels.utf8_length(getattr(each, name)) for each in records.answers()]
        hits += _far(name, np.concatenate(lengths), records, "characters")
    if turns := records.of_conversations:
        hits += _far("conversation", np.diff(turns.starts), None, "answers")
    return finding("length_outliers", len(records), hits)


def _far(
    name: str, lengths: np.ndarray, records: Records | None, unit: str
) -> Iterator[FlaggedRecord]:
    """Yield what is far longer than the rest; without records, each length is of one."""
    usual = np.percentile(lengths[lengths > 0], 99) if lengths.any() else 0
    turns = records.of_conversations if records else None
    numbers = turns.numbers() if turns else np.arange(len(lengths))
    for place in np.flatnonzero(lengths > FAR * usual).tolist():
        yield FlaggedRecord(
            record=int(numbers[place]), kind=f"long {name}", excerpt=f"{lengths[place]:,} {unit}"
        )
