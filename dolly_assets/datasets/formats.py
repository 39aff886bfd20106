"""Reads a dataset file: JSON, JSONL, CSV, TSV, Parquet or Arrow, the text formats also compressed.

Reports what is wrong with a file and where, by line, column or byte, which is why lines are read by
our own code. It does not know where the file came from; columns and values are the business of
`schema`, tables of `columnar`.
"""

import csv
import json
from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedIOBase
from pathlib import Path

from dolly_assets.core.errors import DatasetError
from dolly_assets.core.git_lfs import pointer_problem
from dolly_assets.datasets.canonical import from_records
from dolly_assets.datasets.columnar import read_arrow, read_parquet
from dolly_assets.datasets.compression import (
    COMPRESSIONS,
    PIECE_BYTES,
    open_unpacked,
)
from dolly_assets.datasets.json_text import (
    check_text,
    first_repeated,
    json_type,
    may_hold_surrogates,
    parse_json,
)
from dolly_assets.datasets.schema import (
    CanonicalTable,
    Record,
)

MAX_LINE_BYTES = 64 * 2**20
MAX_JSON_BYTES = 2**30
"""A JSON array is held in memory as a whole, whereas a JSONL file is read line by line."""
UTF8_BOM = b"\xef\xbb\xbf"
TEXT_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv")
SUFFIXES = (
    *TEXT_SUFFIXES,
    ".parquet",
    ".arrow",
    *(text + packed for packed in COMPRESSIONS for text in TEXT_SUFFIXES),
)


class NotRecordsError(DatasetError):
    """A JSON file that holds no array of objects, as others than examples do not."""


def format_of(name: str) -> str:
    """Return the format of a file by its name, without its compression: `json`, `parquet`.

    Raises:
        DatasetError: The suffix is none of `SUFFIXES`.
    """
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return suffix.split(".")[1]
    raise DatasetError(
        f"{name}: unknown file type; expected a name that ends in one of {', '.join(SUFFIXES)}"
    )


def read_file(path: Path, *, source: str) -> CanonicalTable:
    """Read a dataset file, whose suffix determines the format, into canonical columns.

    Args:
        path: The file on this machine.
        source: What errors call it.

    Raises:
        NotRecordsError: A JSON file does not hold an array.
        DatasetError: The suffix is unknown; or the file is empty, damaged, a Git LFS pointer, not
            UTF-8, or too large when decompressed; or it has a line longer than `MAX_LINE_BYTES`, no
            records, the wrong columns or an unusable record.
    """
    file_format = format_of(path.name)
    if path.stat().st_size == 0:
        raise DatasetError(f"{source}: the file is empty; a dataset needs at least one example")
    if problem := pointer_problem(path):
        raise DatasetError(f"{source}: {problem}")
    if file_format == "parquet":
        return read_parquet(path, source=source)
    if file_format == "arrow":
        return read_arrow(path, source=source)
    with open_unpacked(path, source=source) as stream:
        return _TEXT_READERS[file_format](stream, source)


def _read_json(stream: BufferedIOBase, source: str) -> CanonicalTable:
    pieces, left_bytes = [], MAX_JSON_BYTES
    while left_bytes >= 0 and (piece := stream.read(PIECE_BYTES)):
        pieces.append(piece)
        left_bytes -= len(piece)
    content = b"".join(pieces)
    if len(content) > MAX_JSON_BYTES:
        raise DatasetError(
            f"{source}: more than {MAX_JSON_BYTES} bytes of JSON; write it as JSONL, one object "
            "per line"
        )
    text = _decode(content.removeprefix(UTF8_BOM), source)
    try:
        array = parse_json(text)
    except json.JSONDecodeError as error:
        hint = "; one object per line is JSONL, name it .jsonl" if error.msg == "Extra data" else ""
        raise DatasetError(
            f"{source}: line {error.lineno}, column {error.colno}: broken JSON: {error.msg}{hint}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{source}: broken JSON: {error}") from error
    if not isinstance(array, list):
        raise NotRecordsError(
            f"{source}: expected a JSON array of objects, found {json_type(array)}"
        )
    for number, record in enumerate(array, 1):
        if not isinstance(record, dict):
            raise DatasetError(
                f"{source}: record {number}: expected a JSON object, found {json_type(record)}"
            )
    if may_hold_surrogates(text):
        for number, record in enumerate(array, 1):
            check_text(record, f"{source}: record {number}")
    return from_records(map(Record, array), source=source)


def _read_jsonl(stream: BufferedIOBase, source: str) -> CanonicalTable:
    return from_records(_jsonl_records(stream, source), source=source)


def _jsonl_records(stream: BufferedIOBase, source: str) -> Iterator[Record]:
    for number, line in enumerate(_lines(stream, source), 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{source}: line {number}, column {error.colno}: broken JSON: {error.msg}; "
                "a JSONL file has one complete object per line"
            ) from error
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{source}: line {number}: broken JSON: {error}") from error
        if not isinstance(record, dict):
            raise DatasetError(
                f"{source}: line {number}: expected a JSON object, found {json_type(record)}"
            )
        if may_hold_surrogates(line):
            check_text(record, f"{source}: line {number}")
        yield Record(record, number)


def _read_csv(delimiter: str, stream: BufferedIOBase, source: str) -> CanonicalTable:
    return from_records(_csv_records(stream, source, delimiter), source=source)


def _csv_records(stream: BufferedIOBase, source: str, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(
        MAX_LINE_BYTES
    )  # the default, 131,072 characters, is less than a long document
    reader = csv.reader(_lines(stream, source), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    first_line = 1
    try:
        for row in reader:
            if header is None:
                header = _checked_header(row, source, first_line) if row else None
            elif row and len(row) != len(header):
                raise DatasetError(
                    f"{source}: line {first_line}: {len(row)} fields where the header has "
                    f"{len(header)}; quote fields that contain commas, quotes or line breaks"
                )
            elif row:
                yield Record(dict(zip(header, row, strict=True)), first_line)
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(
            f"{source}: broken CSV in the record at line {first_line}: {error}"
        ) from error


def _checked_header(names: list[str], source: str, line: int) -> list[str]:
    if repeated := first_repeated(names):
        raise DatasetError(
            f"{source}: line {line}: the column name {repeated!r} occurs twice; rename or remove "
            "one"
        )
    return names


def _lines(stream: BufferedIOBase, source: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 stream with their ends, holding one line in memory at a time."""
    offset = 0
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise DatasetError(
                f"{source}: line {number} is longer than {MAX_LINE_BYTES} bytes; split or remove it"
            )
        bom = UTF8_BOM if number == 1 and line.startswith(UTF8_BOM) else b""
        yield _decode(line[len(bom) :], source, line=number, offset=offset + len(bom))
        offset += len(line)


def _decode(content: bytes, source: str, *, line: int = 1, offset: int = 0) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line += content.count(b"\n", 0, error.start)
        raise DatasetError(
            f"{source}: line {line}: byte {offset + error.start} of the file is not UTF-8 "
            f"(0x{content[error.start]:02x}, {error.reason}); save the file as UTF-8"
        ) from error


_TEXT_READERS: dict[str, Callable[[BufferedIOBase, str], CanonicalTable]] = {
    "json": _read_json,
    "jsonl": _read_jsonl,
    "csv": partial(_read_csv, ","),
    "tsv": partial(_read_csv, "\t"),
}
