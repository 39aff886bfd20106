"""Records and tables in the canonical form: exchanges, conversations or preferences.

It knows that there are three forms, and finds by the columns which one a source has. What an
exchange is that of `schema`, what a conversation is that of `chat`, a preference of `preferences`.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import pyarrow as pa

from dolly_assets.conversations.tables import (
    conversations,
    holds_conversations,
    holds_preferences,
)
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.arrow_records import is_nested, records_of
from dolly_assets.datasets.chat.dialogues import Dialogues, dialogue_columns
from dolly_assets.datasets.chat.forms import MESSAGES, Form, form_of
from dolly_assets.datasets.chat.table import Rows, conversations_from_records
from dolly_assets.datasets.preferences.records import (
    are_preferences,
    preference_columns,
    preferences_from_records,
)
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
        are_preferences: Whether they are those of preferences.
    """

    form: Form | None
    texts: list[str]
    values: list[str]
    are_preferences: bool = False


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
    everything = chain([first], stream)
    if are_preferences(values):
        return preferences_from_records(everything, source=source)
    form = form_of(values, lambda name: isinstance(values[name], list | dict))
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
    if are_preferences(names):
        return Wanted(None, [], preference_columns(names, source=source), are_preferences=True)
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
    if wanted.form or wanted.are_preferences:
        table = (
            conversations_from_records(records, wanted.form, source=source)
            if wanted.form
            else preferences_from_records(records, source=source)
        )
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
    """Return tables as one: of exchanges if all are, else of conversations; or of preferences.

    Raises:
        DatasetError: Some hold preferences and others do not.
    """
    are_preferences = {holds_preferences(table) for table in tables}
    if len(are_preferences) > 1:
        raise DatasetError(
            "some of the files hold preferences ('chosen' and 'rejected'), and others examples: "
            "add them as two datasets"
        )
    if any(map(holds_conversations, tables)):
        tables = [
            table if holds_conversations(table) else _as_conversations(table) for table in tables
        ]
    return pa.concat_tables(tables)


def _as_conversations(exchanges: pa.Table) -> pa.Table:
    rows = Rows()
    for conversation in conversations(exchanges):
        rows.add(conversation)
    return rows.table()


def _stated(exchanges: CanonicalTable) -> CanonicalTable:
    """Return exchanges with a line for conversations beside them, which are not read."""
    chat = [
        name for name in exchanges.dropped_columns if folded(name) in MESSAGES.columns["messages"]
    ]
    if not chat:
        return exchanges
    line = f"read the instructions and responses, and not the conversations in {shown_names(chat)}"
    return exchanges._replace(losses=(*exchanges.losses, line))
