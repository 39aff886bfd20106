"""JSON from outside: parsed strictly, and checked to be text that can be written again.

Knows JSON and neither files nor records. What `json` accepts beyond the standard is refused where a
value is kept: a key that occurs twice, halves of surrogate pairs, NaN and infinite numbers.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence

from dolly_assets.core.errors import DatasetError


def parse_json(text: str) -> object:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is broken, or an object has a key twice.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique_keys)


def first_repeated(names: Sequence[str]) -> str | None:
    """Return the first name that occurs twice, or None."""
    counts = Counter(names)
    return next((name for name in names if counts[name] > 1), None)


def has_lone_surrogate(text: str) -> bool:
    """Whether half of a surrogate pair, which cannot be written as UTF-8, is in a string."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def may_hold_surrogates(text: str) -> bool:
    """Whether JSON may hold half of a surrogate pair, which only an escape can spell."""
    return "\\ud" in text or "\\uD" in text


def check_text(value: object, place: str) -> None:
    """Raise DatasetError if a key or a string, at any depth, is not text."""
    left = [("", value)]
    while left:
        where, item = left.pop()
        if isinstance(item, dict):
            left.extend((f"the key {key!r}", key) for key in item)
            left.extend((f"the value of {key!r}", inner) for key, inner in item.items())
        elif isinstance(item, list):
            left.extend((where, inner) for inner in item)
        elif isinstance(item, str) and has_lone_surrogate(item):
            raise DatasetError(
                f"{place}: {where} has half of a surrogate pair (\\ud800 to \\udfff), which is not "
                "text; correct it"
            )


def problem_of(value: object) -> str | None:
    """Return why a value cannot be kept as JSON, or None."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item)
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            left.extend(item)
        elif isinstance(item, str):
            if has_lone_surrogate(item):
                return "half of a surrogate pair (\\ud800 to \\udfff), which is not text"
        elif isinstance(item, float) and not math.isfinite(item):
            return f"the number {item}, which JSON does not have"
        elif not isinstance(item, int | float | None):
            return f"a value of type {type(item).__name__}, which JSON does not have"
    return None


def json_type(value: object) -> str:
    """Return the kind of a JSON value with its article."""
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        repeated = first_repeated([key for key, _ in pairs])
        raise ValueError(f"an object has the key {repeated!r} twice; rename or remove one")
    return record
