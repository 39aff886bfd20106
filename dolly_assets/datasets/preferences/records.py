"""Preferences in the forms in which programs write them, as a table with PREFERENCE_SCHEMA.

A record has `chosen` and `rejected`, and mostly a `prompt`. Each may be a text or a list of
messages; lists of answers may begin with the prompt, which then need not stand beside them. An
empty answer is read: the checks of quality find it.
"""

from collections.abc import Iterable, Mapping
from typing import get_args

import pyarrow as pa

from dolly_assets.conversations import Message, Role
from dolly_assets.conversations.preference import Preference, Side
from dolly_assets.conversations.tables import PREFERENCE_SCHEMA
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.chat.forms import MESSAGES
from dolly_assets.datasets.chat.losses import Losses, RecordError, place_of
from dolly_assets.datasets.chat.turns import messages_of
from dolly_assets.datasets.schema import ALIASES, CanonicalTable, Record, folded, matched
from dolly_assets.storage.large_tables import TableWriter

COLUMNS = {
    "prompt": ALIASES["instruction"],
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "chosen_model": ("chosen_model",),
    "rejected_model": ("rejected_model",),
    "chosen_side": ("chosen_side",),
    "id": ("id", "prompt_id"),
}
"""Columns of a preference, with their names in sources."""
ANSWERS = ("chosen", "rejected")
_SIDES: dict[str, Side] = {side: side for side in get_args(Side)}
_KNOWN = frozenset(alias for names in COLUMNS.values() for alias in names)


def are_preferences(names: Iterable[str]) -> bool:
    """Whether a source with columns of these names holds preferences.

    One that has an answer of its own, or messages, is read as such.
    """
    known = {folded(name) for name in names}
    others = (*ALIASES["response"], *MESSAGES.columns["messages"])
    return known.issuperset(ANSWERS) and known.isdisjoint(others)


def preferences_from_records(records: Iterable[Record], *, source: str) -> CanonicalTable:
    """Convert records to preferences.

    Raises:
        DatasetError: A column is ambiguous, or a record is unusable, which the message names.
    """
    losses, rows, names = Losses(), TableWriter(PREFERENCE_SCHEMA), dict[str, None]()
    mapping: dict[str, str] = {}
    for number, record in enumerate(records, 1):
        losses.place = place_of(number, record.line)
        new = [name for name in record.values if name not in names]
        names.update(dict.fromkeys(new))
        if new:
            mapping = matched([*names], COLUMNS, source=source)
        values = {name: record.values.get(theirs) for name, theirs in mapping.items()}
        try:
            row = preference_of(values, losses).row()
        except RecordError as error:
            raise DatasetError(f"{source}: {losses.place}: {error}") from error
        rows.write(pa.RecordBatch.from_pylist([row], schema=PREFERENCE_SCHEMA))
    return CanonicalTable(
        rows.table(),
        tuple(name for name in names if name not in mapping.values()),
        mapping,
        tuple(losses.lines()),
    )


def preference_columns(names: Iterable[str], *, source: str) -> list[str]:
    """Return the columns of a table that are read."""
    return list(matched(names, COLUMNS, source=source).values())


def preference_of(values: Mapping[str, object], losses: Losses) -> Preference:
    """Return the preference of a record.

    Raises:
        RecordError: It is unusable; the text states why.
    """
    chosen, rejected = (_messages(values.get(name), name, "assistant", losses) for name in ANSWERS)
    stated = values.get("prompt")
    prompt = chosen[:-1] if stated is None else _messages(stated, "prompt", "user", losses)
    if not prompt:
        raise RecordError("the prompt is missing; fill it in or remove the record")
    return Preference(
        prompt=tuple(prompt),
        chosen=_answer(chosen, prompt, "chosen"),
        rejected=_answer(rejected, prompt, "rejected"),
        chosen_model=_text(values.get("chosen_model")),
        rejected_model=_text(values.get("rejected_model")),
        chosen_side=_SIDES.get(_text(values.get("chosen_side")), ""),
        id=_text(values.get("id")),
    )


def _messages(value: object, name: str, role: Role, losses: Losses) -> list[Message]:
    """Return the messages of a list, or a text as a message of the role."""
    if value is None:
        raise RecordError(f"{name!r} is missing; fill it in or remove the record")
    if isinstance(value, str):
        return [Message(role, value)]
    return messages_of(value, name, losses)


def _answer(messages: list[Message], prompt: list[Message], name: str) -> str:
    """Return the text of the one message that follows the prompt."""
    *before, last = messages or [Message("assistant")]
    if last.role != "assistant" or last.tool_calls:
        raise RecordError(f"{name!r} ends with no text of the assistant; remove the record")
    if before and before != prompt:
        raise RecordError(f"{name!r} answers another prompt; correct it or remove the record")
    return last.content


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
