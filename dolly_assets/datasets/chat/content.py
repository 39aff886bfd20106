"""What a message says: a text, or parts of which only texts are read; and reasoning before it."""

import re
from typing import NamedTuple

from dolly_assets.datasets.chat.losses import Losses, RecordError
from dolly_assets.datasets.json_text import json_type

TEXT_PARTS = ("text", "input_text", "output_text")
_MEDIA = re.compile(r"image|audio|video|file|document")
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")


class Thought(NamedTuple):
    """A text, and the reasoning before it."""

    reasoning: str
    text: str


def text_of(content: object, losses: Losses) -> str:
    """Return a content as text; null is an empty one.

    Raises:
        RecordError: It is no text, or has a part that is none, such as an image.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RecordError(f"its content is {json_type(content)}; expected a string")
    texts = [_part(part) for part in content]
    if len(texts) > 1:
        losses.note("joined the parts of a content with line breaks")
    return "\n".join(texts)


def split_reasoning(text: str, losses: Losses) -> Thought:
    """Split off the reasoning with which an assistant's text begins, in `<think>` and `</think>`.

    Line breaks around both are removed: they belong to the marker.
    """
    found = _THOUGHT.match(text) if "</think>" in text else None
    if not found:
        return Thought("", text)
    reasoning, rest = (part.strip("\n") for part in (found[1], found[2].lstrip("\n")))
    if not reasoning.strip():
        losses.note("left out an empty <think></think>")
        reasoning = ""
    return Thought(reasoning, rest)


def stated_reasoning(fields: dict[str, object]) -> str:
    """Take the reasoning that a message states in a key of its own.

    Raises:
        RecordError: It is no text, or two keys differ.
    """
    stated = {key: fields.pop(key) for key in REASONING_KEYS if key in fields}
    for key, value in stated.items():
        if not isinstance(value, str):
            raise RecordError(f"its {key!r} is {json_type(value)}; expected a string")
    texts = dict.fromkeys(str(value) for value in stated.values())
    if len(texts) > 1:
        raise RecordError(f"its {' and '.join(map(repr, stated))} differ; keep one")
    return next(iter(texts), "")


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise RecordError(f"a part of its content is {json_type(part)}; expected an object")
    kind = part.get("type")
    if kind in TEXT_PARTS or (kind is None and "text" in part):
        if isinstance(text := part.get("text"), str):
            return text
        raise RecordError(f"a text part of its content holds {json_type(text)}; expected a string")
    if isinstance(kind, str) and (media := _MEDIA.search(kind)):
        raise RecordError(
            f"its content has a part of type {kind!r} ({media[0]}): only text can be trained on; "
            "remove the record or the part"
        )
    raise RecordError(f"its content has a part of type {kind!r}; expected 'text'")
