"""What was read of a source and what was not, in lines: for the terminal and for Dagster alike.

Knows the result of reading, not how it came about. Names come from files of others, so they are
shown without their control characters, and only the first of many.
"""

from collections.abc import Mapping
from itertools import islice

from dolly_assets.core.errors import some_of
from dolly_assets.core.text import count
from dolly_assets.datasets.schema import shown_names
from dolly_assets.datasets.sources import Source

MOST_NAMES = 20
MOST_LOSSES = 50


def reading_of(source: Source) -> list[str]:
    """Return a line for each file that was read, each reason to skip files, columns, and losses."""
    lines = [*_read(source.files), *_skipped(source.left_out), *_columns(source)]
    shown = map(shown_name, source.losses[:MOST_LOSSES])
    if (others := len(source.losses) - MOST_LOSSES) > 0:
        return [*lines, *shown, f"{count(others, 'more line')} on what was not kept"]
    return [*lines, *shown]


def shown_name(name: str) -> str:
    """Return a name on one line, with what cannot be printed as escapes."""
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


def _read(files: Mapping[str, int]) -> list[str]:
    rows = list(files.values())
    lines = [
        f"read {shown_name(name)}: {count(examples, 'example')}"
        for name, examples in islice(files.items(), MOST_NAMES)
    ]
    if len(rows) > MOST_NAMES:
        examples = count(sum(rows[MOST_NAMES:]), "example")
        lines.append(f"read {count(len(rows) - MOST_NAMES, 'more file')}: {examples}")
    return lines


def _skipped(left_out: Mapping[str, str]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        by_reason.setdefault(reason, []).append(shown_name(name))
    return [
        f"skipped {len(names):,} ({shown_name(reason)}): {some_of(names, MOST_NAMES)}"
        for reason, names in by_reason.items()
    ]


def _columns(source: Source) -> list[str]:
    kept = [
        canonical if theirs == (canonical,) else f"{canonical} (from {shown_names(theirs)})"
        for canonical, theirs in source.kept_columns.items()
    ]
    lines = [f"kept {count(len(kept), 'column')}: {some_of(kept, MOST_NAMES)}"] if kept else []
    if dropped := source.dropped_columns:
        names = shown_names(dropped)
        lines.append(f"dropped {count(len(dropped), 'column')}: {names}")
    return lines
