"""Messages in ShareGPT's layout: `from` and `value`, where a call is a turn of its own."""

from collections.abc import Mapping
from dataclasses import replace

from dolly_assets.conversations import Message
from dolly_assets.datasets.chat.content import split_reasoning, text_of
from dolly_assets.datasets.chat.losses import Losses
from dolly_assets.datasets.chat.openai import note_dropped
from dolly_assets.datasets.chat.roles import is_call, role_of
from dolly_assets.datasets.chat.tools import calls_of, is_empty


def is_turn(fields: Mapping[str, object]) -> bool:
    """Whether a message has this layout."""
    return "from" in fields and "role" not in fields


def turn(fields: Mapping[str, object], losses: Losses) -> Message:
    """Return a turn as a message.

    Raises:
        RecordError: Its role is unknown, or its value unusable.
    """
    left = {key: value for key, value in fields.items() if not is_empty(value)}
    speaker, value = left.pop("from", None), left.pop("value", None)
    if is_call(speaker):
        made = Message("assistant", tool_calls=calls_of(value, losses))
    else:
        role, text = role_of(speaker, losses), text_of(value, losses)
        reasoning, text = split_reasoning(text, losses) if role == "assistant" else ("", text)
        made = Message(role, text, reasoning=reasoning)
    note_dropped(left, losses)
    return made


def with_call(answer: Message, call: Message, losses: Losses) -> Message:
    """Return an assistant's message with the calls of the turn that follows it."""
    losses.note("joined a call to the assistant's turn before it")
    return replace(answer, tool_calls=(*answer.tool_calls, *call.tool_calls))
