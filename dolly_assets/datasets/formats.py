"""Reads a dataset file: JSON, JSONL, CSV or Parquet, the text formats also gzipped.

It finds what is wrong with a file and says where: line, column or byte; lines are read by our own code for
that reason. It does not know where the file came from; columns and values are `schema`'s business.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dolly_assets.datasets.schema import CanonicalTable, Record, canonical_from_records, canonical_from_table
from dolly_assets.errors import DatasetError

MAX_LINE_BYTES = 64 * 2**20
MAX_JSON_BYTES = 2**30
"""A JSON array has to be held in memory as a whole; a JSONL file is read line by line."""
MAX_TEXT_BYTES = 4 * 2**30
"""The most text that a file may hold, decompressed: a dataset is held in memory, and a gzip file can hide any size."""
UTF8_BOM = b"\xef\xbb\xbf"
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".json.gz", ".jsonl.gz", ".csv.gz")


def format_of(name: str) -> str:
    """The format a file name stands for: `json`, `jsonl`, `csv` (each also with `.gz`) or `parquet`.

    Raises:
        DatasetError: The suffix is none of `SUFFIXES`.
    """
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return suffix.split(".")[1]
    raise DatasetError(f"{name}: unknown file type; expected a name that ends in one of {', '.join(SUFFIXES)}")


def read_file(path: Path, *, source: str) -> CanonicalTable:
    """Read a dataset file into canonical columns. Its suffix decides the format.

    Args:
        path: The file on this machine.
        source: What to call it in an error.

    Raises:
        DatasetError: The suffix is unknown, or the file is empty, damaged, not UTF-8, has a line longer than
            `MAX_LINE_BYTES`, no records, the wrong columns or a useless record.
    """
    file_format = format_of(path.name)
    if path.stat().st_size == 0:
        raise DatasetError(f"{source}: the file is empty; a dataset needs at least one example")
    if file_format == "parquet":
        return _read_parquet(path, source)
    read = _TEXT_READERS[file_format]
    compressed = path.suffix.lower() == ".gz"
    try:
        with path.open("rb") as file:
            return read(gzip.GzipFile(fileobj=file) if compressed else file, source)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(f"{source}: not a whole gzip file ({error}); compress or copy it again") from error


def _read_json(stream: BufferedIOBase, source: str) -> CanonicalTable:
    content = stream.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise DatasetError(
            f"{source}: more than {MAX_JSON_BYTES} bytes of JSON; write it as JSONL, one object per line"
        )
    try:
        array = _parse_json(_decode(content.removeprefix(UTF8_BOM), source))
    except json.JSONDecodeError as error:
        hint = "; one object per line is JSONL, name it .jsonl" if error.msg == "Extra data" else ""
        raise DatasetError(
            f"{source}: line {error.lineno}, column {error.colno}: broken JSON: {error.msg}{hint}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{source}: broken JSON: {error}") from error
    if not isinstance(array, list):
        raise DatasetError(f"{source}: expected a JSON array of objects, found {_json_type(array)}")
    for number, record in enumerate(array, 1):
        if not isinstance(record, dict):
            raise DatasetError(f"{source}: record {number}: expected a JSON object, found {_json_type(record)}")
    return canonical_from_records(map(Record, array), source=source)


def _read_jsonl(stream: BufferedIOBase, source: str) -> CanonicalTable:
    return canonical_from_records(_jsonl_records(stream, source), source=source)


def _jsonl_records(stream: BufferedIOBase, source: str) -> Iterator[Record]:
    for number, line in enumerate(_lines(stream, source), 1):
        if not line.strip():
            continue
        try:
            record = _parse_json(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{source}: line {number}, column {error.colno}: broken JSON: {error.msg}; "
                "a JSONL file has one whole object per line"
            ) from error
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{source}: line {number}: broken JSON: {error}") from error
        if not isinstance(record, dict):
            raise DatasetError(f"{source}: line {number}: expected a JSON object, found {_json_type(record)}")
        yield Record(record, number)


def _read_csv(stream: BufferedIOBase, source: str) -> CanonicalTable:
    return canonical_from_records(_csv_records(stream, source), source=source)


def _csv_records(stream: BufferedIOBase, source: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE_BYTES)  # the default, 131,072 characters, is less than a long document
    reader = csv.reader(_lines(stream, source), strict=True)
    header: list[str] | None = None
    first_line = 1
    try:
        for row in reader:
            if header is None:
                header = _checked_header(row, source)
            elif row and len(row) != len(header):
                raise DatasetError(
                    f"{source}: line {first_line}: {len(row)} fields where the header has {len(header)}; "
                    "quote fields that contain commas, quotes or line breaks"
                )
            elif row:
                yield Record(dict(zip(header, row, strict=True)), first_line)
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(f"{source}: broken CSV in the record at line {first_line}: {error}") from error


def _checked_header(names: list[str], source: str) -> list[str]:
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise DatasetError(f"{source}: line 1: the column name {repeated[0]!r} occurs twice; rename or remove one")
    return names


def _read_parquet(path: Path, source: str) -> CanonicalTable:
    try:
        with pq.ParquetFile(path) as file:
            groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
            if (size_bytes := sum(group.total_byte_size for group in groups)) > MAX_TEXT_BYTES:
                raise DatasetError(
                    f"{source}: {size_bytes:,} bytes decompressed, more than {MAX_TEXT_BYTES:,}; split the file"
                )
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{source}: not a readable Parquet file ({error}); write or copy it again") from error
    return canonical_from_table(table, source=source)


def _lines(stream: BufferedIOBase, source: str) -> Iterator[str]:
    """The lines of a UTF-8 stream with their ends; at most `MAX_LINE_BYTES` of it are in memory at a time."""
    offset = 0
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise DatasetError(f"{source}: line {number} is longer than {MAX_LINE_BYTES} bytes; split or remove it")
        bom = UTF8_BOM if number == 1 and line.startswith(UTF8_BOM) else b""
        yield _decode(line[len(bom) :], source, line=number, offset=offset + len(bom))
        offset += len(line)
        if offset > MAX_TEXT_BYTES:
            raise DatasetError(f"{source}: more than {MAX_TEXT_BYTES:,} bytes of text; split it into several datasets")


def _decode(content: bytes, source: str, *, line: int = 1, offset: int = 0) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line += content.count(b"\n", 0, error.start)
        raise DatasetError(
            f"{source}: line {line}: byte {offset + error.start} of the file is not UTF-8 "
            f"(0x{content[error.start]:02x}, {error.reason}); save the file as UTF-8"
        ) from error


def _parse_json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique_keys)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {repeated!r} twice; rename or remove one")
    return record


def _json_type(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


_TEXT_READERS: dict[str, Callable[[BufferedIOBase, str], CanonicalTable]] = {
    "json": _read_json,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
}
