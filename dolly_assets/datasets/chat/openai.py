"""Messages in the layout of OpenAI's API: `role` and `content`, calls, results, reasoning.

Reads the canonical messages of this project as well, and what Hugging Face's programs add.
"""

from collections.abc import Mapping

from dolly_assets.conversations import Message
from dolly_assets.datasets.chat.content import split_reasoning, stated_reasoning, text_of
from dolly_assets.datasets.chat.losses import Losses, RecordError
from dolly_assets.datasets.chat.roles import role_of
from dolly_assets.datasets.chat.tools import calls_of, is_empty

CALL_KEYS = ("tool_calls", "function_call")


def message(fields: Mapping[str, object], losses: Losses) -> Message:
    """Return a message.

    Raises:
        RecordError: Its role is unknown, or its content, its calls or its reasoning unusable.
    """
    left = {key: value for key, value in fields.items() if not is_empty(value)}
    role = role_of(left.pop("role", None), losses)
    text = text_of(left.pop("content", None), losses)
    if role == "assistant":
        made = _assistant(text, left, losses)
    elif role == "tool":
        made = Message(
            role,
            text,
            tool_call_id=str(left.pop("tool_call_id", "")),
            name=str(left.pop("name", "")),
        )
    elif role == "user":
        made = Message(role, text, context=text_of(left.pop("context", None), losses))
    else:
        made = Message(role, text)
    if role != "assistant" and (call := next(filter(left.__contains__, CALL_KEYS), None)):
        raise RecordError(f"it has {call!r}; only the assistant can call tools")
    note_dropped(left, losses)
    return made


def note_dropped(left: Mapping[str, object], losses: Losses) -> None:
    """Count the keys of a message that are not kept."""
    for key, value in left.items():
        if key == "weight":
            if not value:
                losses.note("weight 0, which is not kept, so that it is trained on like others")
        else:
            losses.note(f"dropped the key {key[:80]!r}")


def _assistant(text: str, left: dict[str, object], losses: Losses) -> Message:
    stated = stated_reasoning(left)
    reasoning, text = split_reasoning(text, losses)
    if stated and reasoning and stated != reasoning:
        raise RecordError("it has reasoning in a key of its own and in its content; keep one")
    calls = [call for key in CALL_KEYS if key in left for call in calls_of(left.pop(key), losses)]
    return Message("assistant", text, reasoning=stated or reasoning, tool_calls=tuple(calls))
