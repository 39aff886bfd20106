"""The messages of a conversation together: what is refused, and what is counted.

Two turns of one role in a row and a beginning with the assistant are kept, since no text is wrong:
templates that cannot write them refuse them.
"""

from collections.abc import Sequence
from itertools import pairwise

from dolly_assets.conversations import Message
from dolly_assets.datasets.chat import openai, sharegpt
from dolly_assets.datasets.chat.losses import Losses, RecordError
from dolly_assets.datasets.chat.roles import is_call
from dolly_assets.datasets.chat.tools import parsed
from dolly_assets.datasets.json_text import json_type


def messages_of(value: object, name: str, losses: Losses) -> list[Message]:
    """Return the messages of a list in either layout, or of its JSON.

    Args:
        value: The list.
        name: What errors call it.
        losses: Counts what is not kept.

    Raises:
        RecordError: It is no list, or a message is unusable, whose number the text states.
    """
    stated = parsed(value, f"the value of {name!r}")
    if not isinstance(stated, list):
        raise RecordError(f"{name!r} is {json_type(stated)}; expected a list of messages")
    messages: list[Message] = []
    for number, fields in enumerate(stated, 1):
        try:
            _add(fields, messages, losses)
        except RecordError as error:
            raise RecordError(f"message {number} of {name!r}: {error}") from error
    return messages


def finished(messages: Sequence[Message], losses: Losses) -> tuple[Message, ...]:
    """Return the messages up to the assistant's last, checked.

    Raises:
        RecordError: The assistant never speaks, or a turn of the user or of the assistant is empty.
    """
    places = [at for at, message in enumerate(messages) if message.role == "assistant"]
    if not places:
        raise RecordError("no turn of the assistant, so there is nothing to learn; remove it")
    kept = tuple(messages[: places[-1] + 1])
    if dropped := len(messages) - len(kept):
        losses.note("dropped the turns after the assistant's last", "turn", dropped)
    for number, message in enumerate(kept, 1):
        _check_is_said(message, number)
    spoken = [message.role for message in kept if message.role != "system"]
    if spoken[0] == "assistant":
        losses.note("kept a beginning with the assistant", "conversation")
    if any(first.role == second.role != "tool" for first, second in pairwise(kept)):
        losses.note("kept two turns of one role in a row", "conversation")
    return kept


def _add(fields: object, messages: list[Message], losses: Losses) -> None:
    if not isinstance(fields, dict):
        raise RecordError(f"it is {json_type(fields)}; expected an object with role and content")
    if not sharegpt.is_turn(fields):
        messages.append(openai.message(fields, losses))
        return
    turn = sharegpt.turn(fields, losses)
    if is_call(fields["from"]) and messages and messages[-1].role == "assistant":
        messages[-1] = sharegpt.with_call(messages[-1], turn, losses)
    else:
        messages.append(turn)


def _check_is_said(message: Message, number: int) -> None:
    has_text = message.content.strip() or message.context.strip() or message.tool_calls
    if message.role in ("user", "assistant") and not has_text:
        of = f"turn {number} ({message.role})"
        raise RecordError(f"{of} has no text; fill it in, or remove it or the record")
