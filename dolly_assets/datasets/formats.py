"""Reads a dataset file: JSON, JSONL, CSV or Parquet, the text formats also gzipped.

Reports what is wrong with a file and where, by line, column or byte, which is why lines are read by
our own code. It does not know where the file came from; columns and values are the business of
`schema`.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.schema import (
    CanonicalTable,
    Record,
    canonical_from_records,
    canonical_from_table,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_LINE_BYTES = 64 * 2**20
MAX_JSON_BYTES = 2**30
"""A JSON array is held in memory as a whole, whereas a JSONL file is read line by line."""
MAX_TEXT_BYTES = 4 * 2**30
"""Limit of a file's text, decompressed: a dataset is held in memory, and gzip can hide any size."""
MAX_EXPANSION = 100
"""Limit of the expansion beyond `HARMLESS_BYTES`: text shrinks to about a tenth, so a file that
expands further was built to fill memory."""
HARMLESS_BYTES = 64 * 2**20
PARQUET_ROWS = 256
PIECE_BYTES = 2**20
UTF8_BOM = b"\xef\xbb\xbf"
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".json.gz", ".jsonl.gz", ".csv.gz")


def format_of(name: str) -> str:
    """Return the format of a file by its name, also with `.gz`: json, jsonl, csv or parquet.

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
        DatasetError: The suffix is unknown; or the file is empty, damaged, not UTF-8, or too large
            when decompressed; or it has a line longer than `MAX_LINE_BYTES`, no records, the wrong
            columns or an unusable record.
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
            return read(_unpacked(file, path, source) if compressed else file, source)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(
            f"{source}: not a complete gzip file ({error}); compress or copy it again"
        ) from error


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
            raise DatasetError(
                f"{source}: record {number}: expected a JSON object, found {_json_type(record)}"
            )
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
                "a JSONL file has one complete object per line"
            ) from error
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{source}: line {number}: broken JSON: {error}") from error
        if not isinstance(record, dict):
            raise DatasetError(
                f"{source}: line {number}: expected a JSON object, found {_json_type(record)}"
            )
        yield Record(record, number)


def _read_csv(stream: BufferedIOBase, source: str) -> CanonicalTable:
    return canonical_from_records(_csv_records(stream, source), source=source)


def _csv_records(stream: BufferedIOBase, source: str) -> Iterator[Record]:
    csv.field_size_limit(
        MAX_LINE_BYTES
    )  # the default, 131,072 characters, is less than a long document
    reader = csv.reader(_lines(stream, source), strict=True)
    header: list[str] | None = None
    first_line = 1
    try:
        for row in reader:
            if header is None:
                header = _checked_header(row, source)
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


def _checked_header(names: list[str], source: str) -> list[str]:
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise DatasetError(
            f"{source}: line 1: the column name {repeated[0]!r} occurs twice; rename or remove one"
        )
    return names


def _read_parquet(path: Path, source: str) -> CanonicalTable:
    """Read batch by batch: a column of equal values is tiny in the file, whatever it expands to."""
    most_bytes, size_bytes = _most_bytes(path), 0
    batches: list[pa.RecordBatch] = []
    try:
        with pq.ParquetFile(path) as file:
            for packed in file.iter_batches(PARQUET_ROWS):
                batches.append(_written_out(packed))
                size_bytes += batches[-1].nbytes
                if size_bytes > most_bytes:
                    raise _too_large(source, path, most_bytes)
            table = pa.Table.from_batches(batches) if batches else file.schema_arrow.empty_table()
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            f"{source}: not a readable Parquet file ({error}); write or copy it again"
        ) from error
    return canonical_from_table(table, source=source)


def _written_out(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with its dictionary-encoded columns decoded."""
    columns = [
        item.dictionary_decode() if isinstance(item, pa.DictionaryArray) else item
        for item in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


class _Unpacked(RawIOBase):
    """The content of a gzip file, up to a number of bytes; more is an error."""

    def __init__(self, file: gzip.GzipFile, most_bytes: int, error: DatasetError) -> None:
        self._file, self._left_bytes, self._error = file, most_bytes, error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._file.readinto(buffer)
        self._left_bytes -= count
        if self._left_bytes < 0:
            raise self._error
        return count


def _unpacked(file: BufferedIOBase, path: Path, source: str) -> BufferedIOBase:
    most_bytes = _most_bytes(path)
    content = _Unpacked(
        gzip.GzipFile(fileobj=file), most_bytes, _too_large(source, path, most_bytes)
    )
    return BufferedReader(content, PIECE_BYTES)


def _most_bytes(path: Path) -> int:
    """Return the size to which a compressed file may expand."""
    return min(MAX_TEXT_BYTES, max(HARMLESS_BYTES, MAX_EXPANSION * path.stat().st_size))


def _too_large(source: str, path: Path, most_bytes: int) -> DatasetError:
    return DatasetError(
        f"{source}: its {path.stat().st_size:,} bytes expand to more than {most_bytes:,}; split "
        "the file, or leave it uncompressed if it really is that repetitive"
    )


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
        if offset > MAX_TEXT_BYTES:
            raise DatasetError(
                f"{source}: more than {MAX_TEXT_BYTES:,} bytes of text; split it into several "
                "datasets"
            )


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
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number")


_TEXT_READERS: dict[str, Callable[[BufferedIOBase, str], CanonicalTable]] = {
    "json": _read_json,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
}
