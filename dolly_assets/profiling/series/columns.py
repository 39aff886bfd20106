"""Journals as columns: JSON lines read by Arrow in blocks, so days of them fit in little memory.

Nested objects become columns named by their path, such as `gpu.0.power_watts`. Knows nothing of
what the columns mean.
"""

import io
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from pydantic_core import from_json

BLOCK_BYTES = 32 * 2**20


def read_blocks(
    path: Path, time_column: str, started_at: float, ended_at: float
) -> Iterator[pa.Table]:
    """Yield the records whose time is in [started_at, ended_at], block by block, in file order.

    Only numeric columns are kept. A missing file has no records; lines that are not JSON objects
    (torn by a killed writer, damaged) are skipped.
    """
    for block in _blocks(path):
        if not _may_touch(block, time_column, started_at, ended_at):
            continue
        table = _parse(block)
        if time_column not in table.column_names:
            continue
        time = pc.field(time_column)
        table = table.filter((time >= started_at) & (time <= ended_at))
        if table.num_rows:
            yield table


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield whole lines, about `BLOCK_BYTES` at a time; a torn last line is left out."""
    if not path.exists():
        return
    rest = b""
    with path.open("rb") as file:
        while read := file.read(BLOCK_BYTES):
            lines, newline, rest = (rest + read).rpartition(b"\n")
            if newline:
                yield lines + newline


def _may_touch(block: bytes, time_column: str, started_at: float, ended_at: float) -> bool:
    """Return whether a block may overlap the span, judged by its first and last record.

    This is cheap, and saves parsing most blocks.
    """
    lines = (block[: block.find(b"\n")], block[block.rfind(b"\n", 0, -1) + 1 :])
    times = [
        record[time_column]
        for record in map(_record, lines)
        if isinstance(record.get(time_column), int | float)
    ]
    return len(times) < 2 or not (max(times) < started_at or min(times) > ended_at)


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = from_json(line)  # strict: refuses deep nesting, and text that is not Unicode
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _parse(block: bytes) -> pa.Table:
    """Return the numeric columns of a block, as float64."""
    # Arrow's parser is fast, but lines that are no JSON can make it end the process.
    lines = [line for line in block.split(b"\n") if _record(line)]
    try:
        return _parse_at_once(b"\n".join(lines))
    except (pa.ArrowException, UnicodeError):  # such as one key with values of two kinds
        return _parse_one_by_one(lines)


def _parse_at_once(block: bytes) -> pa.Table:
    options = pyarrow.json.ReadOptions(block_size=max(2**20, len(block) // 4))
    table = pyarrow.json.read_json(io.BytesIO(block), read_options=options)
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return _numbers(table)


def _parse_one_by_one(lines: list[bytes]) -> pa.Table:
    records = [dict(_flat(record)) for record in map(_record, lines)]
    names = dict.fromkeys(chain.from_iterable(records))
    return pa.table(
        {name: pa.array([record.get(name) for record in records], pa.float64()) for name in names}
    )


def _flat(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and abs(value) <= sys.float_info.max:
            yield prefix + key, float(value)


def _numbers(table: pa.Table) -> pa.Table:
    """Return the numeric columns, as float64: 53 bits hold bytes and joules exactly."""
    kept = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if (
            pa.types.is_integer(column.type)
            or pa.types.is_floating(column.type)
            or pa.types.is_boolean(column.type)
        ):
            kept[name] = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
    return pa.table({name: column.cast(pa.float64(), safe=False) for name, column in kept.items()})
