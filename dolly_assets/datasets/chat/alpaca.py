"""Alpaca with more than a single exchange: a system prompt, earlier turns, tools.

The columns are those of LLaMA-Factory: `system`, and `history` with pairs of a user's and an
assistant's text.
"""

from collections.abc import Iterator

from dolly_assets.conversations import Message
from dolly_assets.datasets.chat.content import split_reasoning
from dolly_assets.datasets.chat.losses import Losses, RecordError
from dolly_assets.datasets.chat.tools import parsed
from dolly_assets.datasets.json_text import json_type

PAIR = 2


def system_of(value: object) -> list[Message]:
    """Return the message of a system prompt; none of an empty one.

    Raises:
        RecordError: It is no text.
    """
    if value is None or value == "":
        return []
    if not isinstance(value, str):
        raise RecordError(f"the system prompt is {json_type(value)}; expected a string")
    return [Message("system", value)]


def history_of(value: object, losses: Losses) -> Iterator[Message]:
    """Yield the messages of earlier turns, given as pairs or as their JSON.

    Raises:
        RecordError: They are no pairs of texts.
    """
    stated = parsed(value, "the value of 'history'")
    if not isinstance(stated, list | None):
        raise RecordError(f"'history' is {json_type(stated)}; expected a list of pairs")
    for number, pair in enumerate(stated or [], 1):
        is_pair = isinstance(pair, list) and len(pair) == PAIR
        if not is_pair or not all(isinstance(text, str) for text in pair):
            raise RecordError(
                f"turn {number} of 'history' is no pair of a user's and an assistant's text"
            )
        yield Message("user", pair[0])
        yield answer(pair[1], losses)


def answer(text: str, losses: Losses) -> Message:
    """Return an assistant's text as a message."""
    thought = split_reasoning(text, losses)
    return Message("assistant", thought.text, reasoning=thought.reasoning)
