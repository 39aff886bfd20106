"""Records and tables in the canonical form: single exchanges or conversations, as they hold.

It knows that there are two forms, and finds by the columns which one a source has. What an exchange
is that of `schema`, what a conversation is that of `chat`.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import pyarrow as pa

from dolly_assets.conversations.tables import conversations, holds_conversations, table_of
from dolly_assets.datasets.arrow_records import is_nested, records_of
from dolly_assets.datasets.chat.dialogues import Dialogues, dialogue_columns
from dolly_assets.datasets.chat.forms import MESSAGES, Form, form_of
from dolly_assets.datasets.chat.table import conversations_from_records
from dolly_assets.datasets.schema import (
    CanonicalTable,
    Record,
    canonical_from_records,
    canonical_from_table,
    check_is_text,
    folded,
    map_columns,
    matched,
    shown_names,
)


class Wanted(NamedTuple):
    """The columns of a table that are read.

    Attributes:
        form: The form of chat data that they have; None if they are those of exchanges.
        texts: Those that are read as columns of text.
        values: Those that are read record by record.
    """

    form: Form | None
    texts: list[str]
    values: list[str]


def from_records(records: Iterable[Record], *, source: str) -> CanonicalTable:
    """Convert records, whose first one shows which form they have.

    Raises:
        DatasetError: There are none; a column is missing or ambiguous; or a record is unusable,
            which the message names by its number, counted from 1, and its line if it has one.
    """
    stream = iter(records)
    first = next(stream, None)
    if first is None:
        return canonical_from_records((), source=source)
    values = first.values
    form = form_of(values, lambda name: isinstance(values[name], list | dict))
    everything = chain([first], stream)
    if form:
        return conversations_from_records(everything, form, source=source)
    dialogues = Dialogues(source)
    return _stated(
        dialogues.joined(canonical_from_records(dialogues.seen(everything), source=source))
    )


def wanted_columns(schema: pa.Schema, *, source: str) -> Wanted:
    """Return the columns of a table that are needed.

    Raises:
        DatasetError: A column is missing or ambiguous, or of a type that is not read.
    """
    names = schema.names
    form = form_of(names, lambda name: is_nested(schema.field(name).type))
    if form:
        return Wanted(form, [], list(matched(names, form.aliases, source=source).values()))
    texts = list(map_columns(names, source=source).values())
    for name in texts:
        check_is_text(name, schema.field(name).type, source=source)
    return Wanted(None, texts, dialogue_columns(names))


def from_columns(
    wanted: Wanted,
    texts: pa.Table,
    values: Iterable[pa.RecordBatch],
    *,
    names: Sequence[str],
    source: str,
) -> CanonicalTable:
    """Convert the columns of a table, as `from_records` converts records.

    Args:
        wanted: Which columns these are.
        texts: Those that are read as text.
        values: Batches of those that are read record by record.
        names: The names of all columns of the source.
        source: What errors call it.
    """
    records = records_of(values, source=source)
    if wanted.form:
        table = conversations_from_records(records, wanted.form, source=source)
        kept = frozenset(table.kept_columns.values())
        return table._replace(dropped_columns=tuple(name for name in names if name not in kept))
    dialogues = Dialogues(source)
    for _ in dialogues.seen(records):
        pass
    return _stated(dialogues.joined(canonical_from_table(texts, source=source, names=names)))


def from_table(table: pa.Table, *, source: str) -> CanonicalTable:
    """Convert a table in memory, as `from_records` converts records."""
    wanted = wanted_columns(table.schema, source=source)
    values = table.select(wanted.values).to_batches(max_chunksize=1024) if wanted.values else ()
    return from_columns(
        wanted, table.select(wanted.texts), values, names=table.column_names, source=source
    )


def in_one_form(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables as one: of exchanges if all are, else of conversations."""
    if any(map(holds_conversations, tables)):
        tables = [
            table if holds_conversations(table) else table_of(conversations(table))
            for table in tables
        ]
    return pa.concat_tables(tables)


def _stated(exchanges: CanonicalTable) -> CanonicalTable:
    """Return exchanges with a line for conversations beside them, which are not read."""
    chat = [
        name for name in exchanges.dropped_columns if folded(name) in MESSAGES.columns["messages"]
    ]
    if not chat:
        return exchanges
    line = f"read the instructions and responses, and not the conversations in {shown_names(chat)}"
    return exchanges._replace(losses=(*exchanges.losses, line))
