"""Reads Parquet and Arrow files: the columns that examples need, in pieces of a bounded size.

A column of equal values is tiny in a file, whatever it expands to: sizes are computed before values
are written out. It does not know where the file came from; columns are the business of `schema`.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.arrow_records import expanded_bytes as values_bytes
from dolly_assets.datasets.arrow_sizes import expanded_bytes
from dolly_assets.datasets.canonical import from_columns, wanted_columns
from dolly_assets.datasets.compression import most_bytes, too_large
from dolly_assets.datasets.schema import CanonicalTable
from dolly_assets.storage.large_tables import TableWriter

PARQUET_ROWS = 4096
DELTA_ROWS = 256
DELTA_SHARE = 4  # of what a file may expand to, at once: Arrow holds several times as much
NO_DICTIONARY = "Not yet implemented"  # Arrow's answer for columns in a delta encoding
ARROW_FILE_START = b"ARROW1\0\0"  # a stream, as save_to_disk writes it, has no mark
ARROW_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


def read_parquet(path: Path, *, source: str) -> CanonicalTable:
    """Read a Parquet file; raises DatasetError as `formats.read_file` does."""
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            leaves = [file.schema.column(at).path for at in range(len(file.schema))]
        wanted = wanted_columns(schema, source=source)
        # Of single columns pyarrow cannot be asked: where a footer is damaged, it ends the process.
        groups = [metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups)]
        if sum(groups) > most_bytes(path):
            raise too_large(source, path)
        largest_bytes = max(groups, default=0)
        columns = {
            name: _parquet_column(path, name, source, largest_bytes) for name in wanted.texts
        }
        texts = pa.table(columns)
        if texts.nbytes > most_bytes(path):
            raise too_large(source, path)
        values = _parquet_values(path, wanted.values, leaves, source, largest_bytes)
        return from_columns(wanted, texts, values, names=schema.names, source=source)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(source, "Parquet", error) from error


def read_arrow(path: Path, *, source: str) -> CanonicalTable:
    """Read an Arrow file, a stream or a file with an index; raises as `formats.read_file` does."""
    try:
        with pa.OSFile(str(path)) as file:
            _check_is_whole(file)
            schema = _open_stream(file).schema
            wanted = wanted_columns(schema, source=source)
            if sum(map(expanded_bytes, _messages(file))) > most_bytes(path):
                raise too_large(source, path)
            texts = pa.table({})
            if wanted.texts:
                texts = _table(_checked(_only(file, schema, wanted.texts)), path, source)
            values: Iterator[pa.RecordBatch] = iter(())
            if wanted.values:
                values = _in_bounds(_checked(_only(file, schema, wanted.values)), path, source)
            return from_columns(wanted, texts, values, names=schema.names, source=source)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(source, "Arrow", error) from error


def _only(
    file: pa.NativeFile, schema: pa.Schema, names: Sequence[str]
) -> pa.ipc.RecordBatchStreamReader:
    """Open a stream of some columns."""
    included = sorted(map(schema.get_field_index, names))
    return _open_stream(file, pa.ipc.IpcReadOptions(included_fields=included))


def _parquet_column(path: Path, name: str, source: str, group_bytes: int) -> pa.ChunkedArray:
    """Return a column of text."""
    return _table(_parquet_batches(path, [name], [name], group_bytes), path, source)[name]


def _parquet_values(
    path: Path, names: Sequence[str], leaves: Sequence[str], source: str, group_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Yield columns of any type, of which not more is written out than a file may expand to."""
    if names:
        below = tuple(f"{name}." for name in names)
        texts = [leaf for leaf in leaves if leaf in names or leaf.startswith(below)]
        yield from _in_bounds(_parquet_batches(path, names, texts, group_bytes), path, source)


def _parquet_batches(
    path: Path, names: Sequence[str], leaves: Sequence[str], group_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Yield columns, of which each value is held once until its size is known.

    Arrow does not have that for delta encodings. These share prefixes among values, so that each
    can be as large as its group of rows, and only a few are decoded at once.
    """
    is_begun = False
    try:
        with pq.ParquetFile(path, read_dictionary=list(leaves)) as file:
            for batch in file.iter_batches(PARQUET_ROWS, columns=list(names)):
                is_begun = True
                yield batch
            return
    except OSError as error:
        if NO_DICTIONARY not in str(error) or is_begun:
            raise
    at_once = max(1, min(DELTA_ROWS, most_bytes(path) // DELTA_SHARE // max(1, group_bytes)))
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(at_once, columns=list(names))


def _in_bounds(
    batches: Iterable[pa.RecordBatch], path: Path, source: str
) -> Iterator[pa.RecordBatch]:
    """Yield batches as long as what they expand to together is not too large."""
    left_bytes = most_bytes(path)
    for batch in batches:
        left_bytes -= sum(map(values_bytes, batch.columns))
        if left_bytes < 0:
            raise too_large(source, path)
        yield batch


def _table(batches: Iterator[pa.RecordBatch], path: Path, source: str) -> pa.Table:
    """Return the batches as one table with decoded columns, if that is not too large."""
    written: TableWriter | None = None
    for batch in _in_bounds(batches, path, source):
        columns = [
            column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
            for column in batch.columns
        ]
        decoded = pa.RecordBatch.from_arrays(columns, batch.schema.names)
        written = written or TableWriter(decoded.schema)
        written.write(decoded)
    if not written:
        raise DatasetError(f"{source}: there are no records; a dataset needs at least one example")
    return written.table()


def _open_stream(
    file: pa.NativeFile, options: pa.ipc.IpcReadOptions | None = None
) -> pa.ipc.RecordBatchStreamReader:
    """Open a stream, or the stream in a file with an index, whose batches are in its order."""
    _seek_stream(file)
    return pa.ipc.open_stream(file, options=options)


def _seek_stream(file: pa.NativeFile) -> None:
    file.seek(0)
    if file.read(len(ARROW_FILE_START)) != ARROW_FILE_START:
        file.seek(0)


def _messages(file: pa.NativeFile) -> pa.ipc.MessageReader:
    _seek_stream(file)
    return pa.ipc.MessageReader.open_stream(file)


def _check_is_whole(file: pa.NativeFile) -> None:
    """Raise ArrowInvalid if a file was cut short, even between two batches."""
    file.seek(0)
    if file.read(len(ARROW_FILE_START)) == ARROW_FILE_START:
        stated = pa.ipc.open_file(file).num_record_batches
        if stated != sum(message.type == "record batch" for message in _messages(file)):
            raise pa.ArrowInvalid("its batches are not those of its index")
        return
    file.seek(max(0, file.size() - len(ARROW_STREAM_END)))
    if file.read() != ARROW_STREAM_END:
        raise pa.ArrowInvalid("it was cut short")


def _checked(reader: pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    """Yield the batches, checked: Arrow itself trusts the offsets and indices of a file."""
    for batch in reader:
        for column in batch.columns:
            _check(column)
        yield batch


def _check(column: pa.Array) -> None:
    """Check a column; values that are not UTF-8 pass, which are found again with their record.

    Not in lists and structs: there, what follows such a value was not reached.
    """
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error) or pa.types.is_nested(column.type):
            raise
        if isinstance(column, pa.DictionaryArray):  # its indices were not reached
            pa.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(pa.binary()))


def _unreadable(source: str, name: str, error: Exception) -> DatasetError:
    return DatasetError(f"{source}: not a readable {name} file ({error}); write or copy it again")
