"""What records have beside a single exchange: a system prompt, earlier turns, tools.

A source in which no record has any of them holds single exchanges. If one has, all its records are
conversations.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dolly_assets.conversations import Conversation
from dolly_assets.conversations.tables import conversations
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.chat.alpaca import answer, history_of
from dolly_assets.datasets.chat.forms import BESIDE, with_system
from dolly_assets.datasets.chat.losses import Losses, RecordError, place_of
from dolly_assets.datasets.chat.table import Rows
from dolly_assets.datasets.chat.tools import is_empty, tools_of
from dolly_assets.datasets.chat.turns import finished
from dolly_assets.datasets.schema import CanonicalTable, Record, folded, matched

ALIASES = {name: BESIDE[name] for name in ("system", "tools")} | {"history": ("history",)}
_KNOWN = frozenset(name for names in ALIASES.values() for name in names)


def dialogue_columns(names: Sequence[str]) -> list[str]:
    """Return the columns among a source's that single exchanges do not have."""
    return [name for name in names if folded(name) in _KNOWN]


class _Beside(NamedTuple):
    values: dict[str, object]
    place: str


class Dialogues:
    """What records have beside an exchange, kept while they stream.

    Args:
        source: What errors call the records.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._names: dict[str, None] = {}
        self._beside: dict[int, _Beside] = {}

    def seen(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield records, and keep what they have beside an exchange."""
        for number, record in enumerate(records):
            stated = {
                name: value
                for name, value in record.values.items()
                if folded(name) in _KNOWN and not is_empty(value)
            }
            if stated:
                self._names.update(dict.fromkeys(stated))
                self._beside[number] = _Beside(stated, place_of(number + 1, record.line))
            yield record

    def joined(self, exchanges: CanonicalTable) -> CanonicalTable:
        """Return the exchanges as conversations, if a record has anything beside one.

        Raises:
            DatasetError: It is unusable, or in two columns that could be the same.
        """
        if not self._beside:
            return exchanges
        mapping = matched(self._names, ALIASES, source=self._source)
        rows, losses = Rows(), Losses()
        for number, exchange in enumerate(conversations(exchanges.table)):
            beside = self._beside.get(number, _Beside({}, place_of(number + 1, None)))
            losses.place = beside.place
            values = {name: beside.values.get(theirs) for name, theirs in mapping.items()}
            try:
                rows.add(_joined(exchange, values, losses))
            except RecordError as error:
                raise DatasetError(f"{self._source}: {losses.place}: {error}") from error
        return CanonicalTable(
            rows.table(),
            tuple(name for name in exchanges.dropped_columns if name not in mapping.values()),
            {**exchanges.kept_columns, **mapping},
            (*exchanges.losses, *losses.lines()),
        )


def _joined(exchange: Conversation, values: dict[str, object], losses: Losses) -> Conversation:
    question, response = exchange.messages
    turns = [*history_of(values.get("history"), losses), question, answer(response.content, losses)]
    return Conversation(
        finished(with_system(values.get("system"), turns), losses),
        tools=tools_of(values.get("tools")),
        category=exchange.category,
    )
