"""Whether a rendering shows every message: templates leave parts out without a word.

It knows messages as templates read them, and rendered text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def first_absent(
    text: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any],
    prompts: Mapping[int, int],
    *,
    needs_reasoning: bool,
) -> str:
    """Return what of the messages a text does not show; "" if it shows all.

    Messages have to appear in their order, a system message anywhere; white space around a text
    does not count. Reasoning has to appear in turns that are trained: most templates leave out that
    of earlier ones on purpose.

    Args:
        text: The rendering.
        messages: What was rendered.
        tools: The tools that were given with it.
        prompts: Of each trained message, by its place, where it can begin at the earliest.
        needs_reasoning: Whether the reasoning of trained turns has to be shown.
    """
    for name in _names(tools):
        if name not in text:
            return "a tool or a parameter of one"
    position = 0
    for at, message in enumerate(messages):
        is_trained = at in prompts
        start = position = max(position, prompts.get(at, 0))
        for what, forms in _parts(message, wants_reasoning=is_trained and needs_reasoning):
            begin = 0 if message["role"] == "system" else start
            found = [place + len(form) for form in forms if (place := text.find(form, begin)) >= 0]
            if not found:
                return what
            if what == "the text of a message" and message["role"] != "system":
                position = max(position, min(found))
    return ""


def _parts(
    message: Mapping[str, Any], *, wants_reasoning: bool
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield what a message states: its name, and the forms in which it may appear."""
    role = message["role"]
    if wants_reasoning and "reasoning_content" in message:
        yield "the reasoning of a trained turn", [message["reasoning_content"].strip()]
    if content := message["content"].strip():
        what = {"system": "a system message", "tool": "the result of a tool"}.get(role)
        if role == "assistant" and "tool_calls" in message:
            what = "the text beside tool calls"
        yield what or "the text of a message", _forms(content)
    if context := message.get("context", "").strip():
        yield "the context of a message", [context]
    for call in message.get("tool_calls", ()):
        function = call["function"]
        yield "the name of a tool that is called", [function["name"]]
        arguments = function["arguments"]
        for leaf in _leaves(json.loads(arguments) if isinstance(arguments, str) else arguments):
            yield "the arguments of a tool call", _forms(leaf)


def _forms(value: Any) -> list[str]:
    """Return how templates print a value: as it is, as JSON, or as Python does."""
    if isinstance(value, str):
        escaped = [json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)]
        return [value.strip(), *escaped, repr(value)[1:-1]]
    return [json.dumps(value), str(value)]


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the keys and values of arguments."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from _leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _names(tools: Sequence[Any]) -> Iterator[str]:
    """Yield the names of tools and of their parameters."""
    for tool in tools:
        function = tool.get("function", tool)
        if isinstance(function.get("name"), str):
            yield function["name"]
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        yield from properties or ()
