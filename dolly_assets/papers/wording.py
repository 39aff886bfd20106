"""How papers state what is recorded: values, figures with intervals, and what is not recorded."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dolly_assets.core.markdown import inline
from dolly_assets.core.text import duration, energy, with_interval

NOT_RECORDED = "not recorded"


def value(found: object) -> str:
    """Return a value in Markdown on one line, or that it is not recorded."""
    if found is None or found in ("", [], {}):
        return NOT_RECORDED
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, int):
        return f"{found:,}"
    if isinstance(found, float):
        return f"{found:g}"
    if isinstance(found, dict | list):
        return f"`{json.dumps(found, ensure_ascii=False)}`"
    return inline(str(found))


def measured(amount: float | None, form: str, unit: str = "") -> str:
    """Return a figure with its unit, or that it is not recorded."""
    return NOT_RECORDED if amount is None else f"{amount:{form}}{unit}"


def time(seconds: float | None) -> str:
    """Return a duration, in words and in seconds, or that it is not recorded."""
    return NOT_RECORDED if seconds is None else f"{duration(seconds)} ({seconds:.1f} s)"


def joules(amount: float | None) -> str:
    """Return an amount of energy, or that it is not recorded."""
    return NOT_RECORDED if amount is None else energy(amount)


def score(found: float | None, interval: Sequence[float] | None) -> str:
    """Return a score with its interval, or that it is not recorded."""
    return NOT_RECORDED if found is None else with_interval(found, interval, ".4f")


def source_name(source: str | None) -> str | None:
    """Return a source without what only this machine knows: of a path, the file's name alone."""
    if source is None:
        return None
    is_path = source.startswith(("/", "./", "../", "~"))
    return source.rstrip("/").rpartition("/")[2] if is_path else source


def pairs(title: str, rows: Mapping[str, Any]) -> str:
    """Return a table of two columns, whose values are Markdown already."""
    lines = [f"| {title} | |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {text} |" for name, text in rows.items())])
