"""The forms of chat data: each has columns by which it is recognised, and gives messages.

A source whose columns are an instruction and a response is no chat data, unless these hold lists
of messages. What it has beside them is the business of `dialogues`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from dolly_assets.conversations import Conversation, Message
from dolly_assets.datasets.chat.alpaca import system_of
from dolly_assets.datasets.chat.chatml import turns_of
from dolly_assets.datasets.chat.losses import Losses, RecordError
from dolly_assets.datasets.chat.tools import is_empty, tools_of
from dolly_assets.datasets.chat.turns import finished, messages_of
from dolly_assets.datasets.schema import ALIASES, folded

Values = Mapping[str, object]
"""Canonical name -> value, of the columns that a record has."""

MEDIA = {
    "images": ("images", "image"),
    "videos": ("videos", "video"),
    "audios": ("audios", "audio"),
}
CHOSEN = "chosen"
BESIDE = {
    CHOSEN: (CHOSEN,),
    "tools": ("tools", "functions"),
    "system": ("system", "system_prompt"),
    "category": ("category",),
    "source": ("source",),
    "id": ("id",),
    **MEDIA,
}
"""Columns that every form may have beside its own, with their names in sources."""


class Form(NamedTuple):
    """A form of chat data.

    Attributes:
        name: What it is called.
        columns: Its own columns, all of which a record must have, and their names in sources.
        messages: Returns the messages of a record.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    messages: Callable[[Values, Losses], Iterable[Message]]

    @property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """All columns that it may have, with their names in sources."""
        return {**self.columns, **BESIDE}


def _of_messages(values: Values, losses: Losses) -> list[Message]:
    return messages_of(values["messages"], "messages", losses)


def _of_prompt(values: Values, losses: Losses) -> Iterator[Message]:
    for name in ("prompt", "completion"):
        yield from messages_of(values[name], name, losses)


def _of_chatml(values: Values, losses: Losses) -> list[Message]:
    return messages_of(list(turns_of(values["text"])), "text", losses)


MESSAGES = Form(
    "messages", {"messages": ("messages", "conversations", "conversation")}, _of_messages
)
PROMPT_COMPLETION = Form(
    "prompt and completion",
    {"prompt": ALIASES["instruction"], "completion": ALIASES["response"]},
    _of_prompt,
)
CHATML = Form("ChatML", {"text": ("text",)}, _of_chatml)


def form_of(names: Iterable[str], is_nested: Callable[[str], bool]) -> Form | None:
    """Return the form of a source by its columns; None if it holds single exchanges.

    Args:
        names: The names of its columns.
        is_nested: Whether a column holds lists or objects.
    """
    known = {folded(name): name for name in names}
    prompts = [known[alias] for alias in ALIASES["instruction"] if alias in known]
    answers = [known[alias] for alias in ALIASES["response"] if alias in known]
    if prompts and answers:
        has_lists = any(map(is_nested, prompts)) and any(map(is_nested, answers))
        return PROMPT_COMPLETION if has_lists else None
    if any(alias in known for alias in MESSAGES.columns["messages"]):
        return MESSAGES
    return CHATML if "text" in known and not prompts and not answers else None


def conversation_of(form: Form, values: Values, losses: Losses) -> Conversation:
    """Return the conversation of a record.

    Raises:
        RecordError: It is unusable; the text states why.
    """
    for name in form.columns:
        if values.get(name) is None:
            raise RecordError(f"{name!r} is missing; fill it in or remove the record")
    for name in MEDIA:
        if not is_empty(values.get(name)):
            raise RecordError(f"it has {name}: only text can be trained on; remove the record")
    messages = list(form.messages(values, losses))
    if not is_empty(values.get(CHOSEN)) and (not messages or messages[-1].role != "assistant"):
        raise RecordError(
            f"it is a preference ({CHOSEN!r} and 'rejected'), which is not read: append the chosen "
            "answer to its messages"
        )
    return Conversation(
        finished(with_system(values.get("system"), messages), losses),
        tools=tools_of(values.get("tools")),
        **described(values, losses),
    )


def with_system(value: object, messages: list[Message]) -> list[Message]:
    """Return messages below the system prompt of a column.

    Raises:
        RecordError: It is no text, or the messages begin with another one.
    """
    stated = system_of(value)
    if not stated or messages[:1] == stated:
        return messages
    if messages and messages[0].role == "system":
        raise RecordError("the system prompt of its column and of its messages differ; keep one")
    return [*stated, *messages]


def described(values: Values, losses: Losses) -> dict[str, str]:
    """Return what a record states about itself: category, source and id, as text."""
    kept: dict[str, str] = {}
    for name in ("category", "source", "id"):
        value = values.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            kept[name] = str(value)
        elif not is_empty(value):
            losses.note(f"dropped the {name}, which is no text", "record")
    return kept
