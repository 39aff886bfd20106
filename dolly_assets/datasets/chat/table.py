"""Records of a form of chat data as a table of conversations, built while they stream."""

from collections.abc import Iterable, Mapping

import pyarrow as pa

from dolly_assets.conversations import Conversation
from dolly_assets.conversations.tables import CONVERSATION_SCHEMA, row_of
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.chat.forms import CHOSEN, MEDIA, Form, conversation_of
from dolly_assets.datasets.chat.losses import Losses, RecordError, place_of
from dolly_assets.datasets.json_text import problem_of
from dolly_assets.datasets.schema import CanonicalTable, Record, folded, matched
from dolly_assets.storage.large_tables import TableWriter

BATCH_RECORDS = 1024
NOT_KEPT = (CHOSEN, *MEDIA)


class Rows:
    """Conversations as rows of a table, which is built in pieces."""

    def __init__(self) -> None:
        self._rows: list[dict[str, str]] = []
        self._written = TableWriter(CONVERSATION_SCHEMA)

    def add(self, conversation: Conversation) -> None:
        """Add a conversation.

        Raises:
            RecordError: A value of it is not JSON.
        """
        self._rows.append(_row(conversation))
        if len(self._rows) == BATCH_RECORDS:
            self._end_piece()

    def table(self) -> pa.Table:
        """Return all rows."""
        self._end_piece()
        return self._written.table()

    def _end_piece(self) -> None:
        self._written.write(pa.RecordBatch.from_pylist(self._rows, schema=CONVERSATION_SCHEMA))
        self._rows = []


def conversations_from_records(
    records: Iterable[Record], form: Form, *, source: str
) -> CanonicalTable:
    """Convert records to conversations.

    Args:
        records: The records, of which only the values of known columns are used.
        form: Their form.
        source: What errors call them.

    Raises:
        DatasetError: A column is ambiguous, or a record is unusable, which the message names.
    """
    columns, losses, rows = _Columns(form, source), Losses(), Rows()
    ids: set[str] = set()
    for number, record in enumerate(records, 1):
        losses.place = place_of(number, record.line)
        values = columns.of(record.values)
        try:
            conversation = conversation_of(form, values, losses)
            rows.add(conversation)
        except RecordError as error:
            raise DatasetError(f"{source}: {losses.place}: {error}") from error
        if conversation.id and conversation.id in ids:
            losses.note("kept an id that an earlier record has", "record")
        ids.add(conversation.id)
    if not losses.place:
        raise DatasetError(f"{source}: there are no records; a dataset needs at least one example")
    kept = {name: theirs for name, theirs in columns.mapping.items() if name not in NOT_KEPT}
    return CanonicalTable(
        rows.table(),
        tuple(name for name in columns.names if name not in kept.values()),
        kept,
        tuple(losses.lines()),
    )


class _Columns:
    """The columns of records whose keys become known while they stream.

    Attributes:
        names: All keys so far, in the order in which they were met.
        mapping: Canonical name -> the source's name.
    """

    def __init__(self, form: Form, source: str) -> None:
        self._aliases, self._source = form.aliases, source
        self._known = frozenset(name for names in self._aliases.values() for name in names)
        self.names: dict[str, None] = {}
        self.mapping: dict[str, str] = {}

    def of(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return a record's values by canonical name."""
        new = [name for name in values if name not in self.names]
        self.names.update(dict.fromkeys(new))
        if any(folded(name) in self._known for name in new):
            known = [name for name in self.names if folded(name) in self._known]
            self.mapping = matched(known, self._aliases, source=self._source)
        return {name: values.get(theirs) for name, theirs in self.mapping.items()}


def _row(conversation: Conversation) -> dict[str, str]:
    try:
        row = row_of(conversation)
        for text in row.values():
            text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordError(_problem(conversation) or f"a value is not JSON: {error}") from error
    return row


def _problem(conversation: Conversation) -> str | None:
    """Return which part of a conversation cannot be written, and why."""
    parts = {
        **{f"turn {at}": turn.as_json() for at, turn in enumerate(conversation.messages, 1)},
        **{f"tool {at}": tool for at, tool in enumerate(conversation.tools, 1)},
        "its category, source or id": [
            conversation.category,
            conversation.source,
            conversation.id,
        ],
    }
    found = ((where, problem_of(part)) for where, part in parts.items())
    return next((f"{where} has {problem}; correct it" for where, problem in found if problem), None)
