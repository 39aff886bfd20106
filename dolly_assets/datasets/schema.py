"""The canonical form of an example, and how a source's columns are mapped to it.

Knows column names and types, and what makes an example unusable for training. It does not know
where records come from; their reader may state the line of each.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from dolly_assets.core.errors import DatasetError

REQUIRED_COLUMNS = ("instruction", "response")

SCHEMA = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("instruction", "context", "response", "category")
    ]
)
"""The canonical columns: all strings, never null; `context` and `category` may be empty."""

ALIASES = {
    "instruction": ("instruction", "prompt", "question"),
    "context": ("context", "input"),
    "response": ("response", "output", "completion", "answer"),
    "category": ("category",),
}
"""Names of a canonical column in sources: Dolly's, Alpaca's (`input`, `output`), common others."""

_KNOWN_NAMES = frozenset(name for names in ALIASES.values() for name in names)


class Record(NamedTuple):
    """A record of a source, and the line on which it starts if the source has lines."""

    values: Mapping[str, object]
    line: int | None = None


class CanonicalTable(NamedTuple):
    """A table in the canonical form, and the source's columns that were dropped."""

    table: pa.Table
    dropped_columns: tuple[str, ...]


def map_columns(names: Sequence[str], *, source: str) -> dict[str, str]:
    """Find the canonical columns among a source's column names.

    Returns:
        Canonical name -> the source's name. Optional columns that are absent have no entry.

    Raises:
        DatasetError: A required column is missing, or two columns claim the same canonical one.
    """
    mapping: dict[str, str] = {}
    for canonical, aliases in ALIASES.items():
        candidates = [name for name in aliases if name in names]
        if len(candidates) > 1:
            raise DatasetError(
                f"{source}: the columns {_quoted(candidates)} could each be the {canonical!r}; "
                "rename or remove all but one"
            )
        if candidates:
            mapping[canonical] = candidates[0]
    missing = [name for name in REQUIRED_COLUMNS if name not in mapping]
    if missing:
        accepted = "; ".join(f"{name!r} (or {_quoted(ALIASES[name][1:])})" for name in missing)
        raise DatasetError(
            f"{source}: no column for {accepted}; found the columns "
            f"{_quoted(sorted(names)) or 'none'}; an example needs an instruction and a response, "
            "and may have a context and a category"
        )
    return mapping


def canonical_from_records(records: Iterable[Record], *, source: str) -> CanonicalTable:
    """Convert records to the canonical form, as `canonical_from_table` does.

    A key that a record lacks counts as null. Only values in known columns are kept, so records may
    stream.
    """
    names: dict[str, None] = {}
    kept: list[dict[str, object]] = []
    lines: list[int | None] = []
    for record in records:
        names.update(dict.fromkeys(record.values))
        kept.append({name: value for name, value in record.values.items() if name in _KNOWN_NAMES})
        lines.append(record.line)
    mapping = map_columns(list(names), source=source) if kept else {}
    columns = {name: [record.get(theirs) for record in kept] for name, theirs in mapping.items()}
    return _canonical(columns, lines, _dropped(list(names), mapping), source)


def canonical_from_table(table: pa.Table, *, source: str) -> CanonicalTable:
    """Convert a table to the canonical form: four string columns in order.

    A null context or category becomes empty.


    Raises:
        DatasetError: There are no records; a column is missing or ambiguous; a value is not a
            string; an instruction or a response is missing or blank. The message names the record,
            counted from 1, and its line if known.
    """
    names = table.column_names
    mapping = map_columns(names, source=source)
    repeated = sorted(name for name in mapping.values() if names.count(name) > 1)
    if repeated:
        raise DatasetError(
            f"{source}: the column name {repeated[0]!r} occurs twice; rename or remove one"
        )
    columns = {name: table.column(theirs).to_pylist() for name, theirs in mapping.items()}
    return _canonical(columns, [None] * table.num_rows, _dropped(names, mapping), source)


def content_digest(table: pa.Table) -> str:
    """Return the SHA-256 of a canonical table's rows in their order, as hexadecimal digits.

    It depends on the strings alone, not on how a file encodes, compresses or chunks them. Every
    string is hashed as its length in UTF-8 bytes (8 bytes, big-endian) and those bytes, so that
    different tables never give the same input to the hash.
    """
    digest = hashlib.sha256()
    for batch in table.select(SCHEMA.names).to_batches(max_chunksize=1024):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            for value in row:
                encoded = value.encode()
                digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def _canonical(
    columns: Mapping[str, Sequence[object]],
    lines: Sequence[int | None],
    dropped: tuple[str, ...],
    source: str,
) -> CanonicalTable:
    if not lines:
        raise DatasetError(f"{source}: there are no records; a dataset needs at least one example")
    arrays = []
    for name in SCHEMA.names:
        values = columns.get(name, [None] * len(lines))
        for number, (value, line) in enumerate(zip(values, lines, strict=True), 1):
            if problem := _problem(name, value):
                place = f"record {number}" if line is None else f"record {number} (line {line})"
                raise DatasetError(f"{source}: {place}: {problem}")
        arrays.append(pa.array(["" if value is None else value for value in values], pa.string()))
    return CanonicalTable(pa.Table.from_arrays(arrays, schema=SCHEMA), dropped)


def _problem(name: str, value: object) -> str | None:
    required = name in REQUIRED_COLUMNS
    if value is None:
        return f"the {name} is missing; fill it in or remove the record" if required else None
    if not isinstance(value, str):
        return f"the {name} is a value of type {type(value).__name__}; expected a string"
    if required and not value.strip():
        return f"the {name} is empty; fill it in or remove the record"
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        return (
            f"the {name} has half of a surrogate pair (\\ud800 to \\udfff), which is not text; "
            "correct it"
        )
    return None


def _dropped(names: Sequence[str], mapping: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if name not in mapping.values())


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
