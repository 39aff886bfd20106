"""Tools and calls of them, in OpenAI's form and the shorter ones that data sets use."""

import json
from collections.abc import Mapping
from typing import Any

from dolly_assets.conversations import ToolCall
from dolly_assets.datasets.chat.losses import Losses, RecordError
from dolly_assets.datasets.json_text import first_repeated, json_type, parse_json

WHAT_A_CALL_IS = 'expected an object such as {"name": "search", "arguments": {"query": "fig"}}'
CALL_KEYS = {"id", "index", "type", "function", "name", "arguments", "parameters"}


def parsed(value: object, what: str) -> object:
    """Return a value that may be written as JSON in a string.

    Raises:
        RecordError: It is a string and not JSON.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return parse_json(value)
    except json.JSONDecodeError as error:
        raise RecordError(f"{what} is no JSON ({error}): {value[:60]!r}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{what} is broken JSON: {error}") from error


def tools_of(value: object) -> tuple[Mapping[str, Any], ...]:
    """Return the tools of a record in OpenAI's form.

    Args:
        value: A list of tools, a single one, or their JSON; null and empty ones are none. A tool
            may be the bare function, with name, description and parameters.

    Raises:
        RecordError: It is none of these.
    """
    stated = parsed(value, "the value of 'tools'")
    tools = [stated] if isinstance(stated, dict) and stated else stated or []
    if not isinstance(tools, list):
        raise RecordError(f"'tools' is {json_type(tools)}; expected a list of objects")
    return tuple(_tool(parsed(tool, f"tool {at}"), at) for at, tool in enumerate(tools, 1))


def calls_of(value: object, losses: Losses) -> tuple[ToolCall, ...]:
    """Return the calls of a message: a list of them, a single one, or their JSON.

    Raises:
        RecordError: It is none of these, or two calls have the same id.
    """
    stated = parsed(value, "its tool call")
    listed = [stated] if isinstance(stated, dict) else stated
    if not isinstance(listed, list) or not listed:
        raise RecordError(f"its tool call is {json_type(stated)}; {WHAT_A_CALL_IS}")
    calls = tuple(_call(item, losses) for item in listed)
    if repeated := first_repeated([call.id for call in calls if call.id]):
        raise RecordError(f"two of its tool calls have the id {repeated!r}; make them differ")
    return calls


def _call(stated: object, losses: Losses) -> ToolCall:
    if not isinstance(stated, dict):
        raise RecordError(f"a tool call is {json_type(stated)}; {WHAT_A_CALL_IS}")
    kind = stated.get("type")
    if kind not in (None, "function"):
        raise RecordError(f"a tool call has the type {kind!r}; expected 'function'")
    function = stated.get("function") or stated
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise RecordError(f"a tool call has no name; {WHAT_A_CALL_IS}")
    for key in sorted({*stated, *function} - CALL_KEYS):
        losses.note(f"dropped the key {key[:80]!r}", "tool call")
    return ToolCall(name, _arguments(function, name), id=str(stated.get("id") or ""))


def _arguments(function: Mapping[str, object], name: str) -> Mapping[str, Any]:
    stated = function.get("arguments", function.get("parameters"))
    arguments = parsed(stated, f"the value of the arguments of the call of {name!r}")
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise RecordError(
            f"the arguments of the call of {name!r} are {json_type(arguments)}; expected an object"
        )
    return arguments


def _tool(stated: object, at: int) -> Mapping[str, Any]:
    if not isinstance(stated, dict):
        raise RecordError(f"tool {at} is {json_type(stated)}; expected an object with a name")
    function = stated.get("function", stated)
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise RecordError(f"tool {at} has no name; expected a function with name and parameters")
    if function is not stated:
        return stated if "type" in stated else {"type": "function", **stated}
    bare = {key: item for key, item in stated.items() if key != "type"}
    return {"type": "function", "function": bare}


def is_empty(value: object) -> bool:
    """Whether a value states nothing: null, or an empty text, list or object."""
    return value is None or (isinstance(value, str | list | dict) and not value)
