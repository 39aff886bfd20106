"""Merging nested mappings, such as the settings in YAML and JSON."""

from collections.abc import Mapping
from typing import Any, cast


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with the overrides merged over it, key by key at every level.

    Where both have a mapping under a key, the two are merged; otherwise the override replaces what
    the base has. Neither argument is changed.
    """
    result = dict(base)
    for key, value in overrides.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            deeper = cast(Mapping[str, Any], below), cast(Mapping[str, Any], value)
            result[key] = merged(*deeper)
        else:
            result[key] = value
    return result
