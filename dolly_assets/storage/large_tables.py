"""Tables and arrays of any size: what is larger than some memory lies in a file, which is mapped.

The file is in the folder for temporary files, `TMPDIR`, and has no name once it is mapped: its
space is free again when the last table that reads it is gone, however the process ends.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dolly_assets.core.errors import DatasetError

MEMORY_BYTES = 64 * 2**20
"""What a table or an array may have in memory before it goes to a file."""

FILTERED_ROWS = 8192


class TableWriter:
    """Collects batches of a table.

    Args:
        schema: The table's schema.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._file: pa.NativeFile | None = None
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch.

        Raises:
            DatasetError: The disk is full.
        """
        if self._writer:
            with disk_errors_explained():
                self._writer.write_batch(batch)
            return
        self._held.append(batch)
        self._held_bytes += batch.nbytes
        if self._held_bytes > MEMORY_BYTES:
            self._move_to_file()

    def table(self) -> pa.Table:
        """Return all batches as a table; nothing can be written afterwards.

        A table in memory has one chunk, one in a file a chunk for each batch.

        Raises:
            DatasetError: The disk is full.
        """
        if not (self._writer and self._file and self._folder):
            return pa.Table.from_batches(self._held, self._schema).combine_chunks()
        with disk_errors_explained():
            self._writer.close()
            self._file.close()
            mapped = pa.memory_map(str(Path(self._folder.name) / "table.arrow"))
        self._folder.cleanup()
        return pa.ipc.open_file(mapped).read_all()

    def _move_to_file(self) -> None:
        with disk_errors_explained():
            self._folder = tempfile.TemporaryDirectory(prefix="table-")
            self._file = pa.OSFile(str(Path(self._folder.name) / "table.arrow"), "wb")
            self._writer = pa.ipc.new_file(self._file, self._schema)
            for batch in self._held:
                self._writer.write_batch(batch)
        self._held = []


def empty_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array of zeros, in memory or in a file that is mapped.

    Raises:
        DatasetError: The disk is full.
    """
    size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size_bytes <= MEMORY_BYTES:
        return np.zeros(shape, dtype)
    with disk_errors_explained(), tempfile.NamedTemporaryFile(prefix="array-") as file:
        _reserve(file.fileno(), size_bytes)
        return np.memmap(file.name, dtype, mode="r+", shape=shape)


def select_rows(table: pa.Table, places: np.ndarray) -> pa.Table:
    """Return some rows of a table, in the given order, as one chunk.

    Only the chunks that hold them are read, one after the other: `Table.take` may concatenate all
    chunks first, which takes the memory of the whole table and fails beyond 2 GiB of text.
    """
    ends = np.cumsum(chunk_lengths(table))
    order = np.argsort(places, kind="stable")
    ordered = np.asarray(places, np.int64)[order]
    chunk_of = np.searchsorted(ends, ordered, side="right")
    begins = np.flatnonzero(np.diff(chunk_of, prepend=-1))
    parts = [table.slice(0, 0)]
    for begin, end in pairwise([*begins.tolist(), len(ordered)]):
        first = int(ends[chunk_of[begin] - 1]) if chunk_of[begin] else 0
        chunk = table.slice(first, int(ends[chunk_of[begin]]) - first)
        parts.append(chunk.take(pa.array(ordered[begin:end] - first)))
    found = pa.concat_tables(parts).combine_chunks()
    del parts
    if np.array_equal(order, np.arange(len(order))):
        return found
    return found.take(pa.array(np.argsort(order, kind="stable"))).combine_chunks()


def filter_rows(table: pa.Table, is_kept: np.ndarray) -> pa.Table:
    """Return the rows of a table that a mask marks, in their order, in memory or in a file."""
    written, first = TableWriter(table.schema), 0
    for batch in table.to_batches(max_chunksize=FILTERED_ROWS):
        written.write(batch.filter(pa.array(is_kept[first : first + batch.num_rows])))
        first += batch.num_rows
    return written.table()


def chunk_lengths(table: pa.Table) -> list[int]:
    """Return the rows of each batch of a table, whose columns may be chunked differently."""
    return [batch.num_rows for batch in table.to_batches()]


@contextmanager
def disk_errors_explained() -> Iterator[None]:
    """Turn a full disk into an error that says what was written there.

    Raises:
        DatasetError: There is no space left, or a quota is used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DatasetError(
            f"{tempfile.gettempdir()}: no space left for a dataset that is larger than memory, "
            "which is kept there while it is worked on: free some, or set TMPDIR to a folder on "
            "another disk"
        ) from error


def _reserve(descriptor: int, size_bytes: int) -> None:
    """Give a file its size on the disk now: a mapped page without space would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size_bytes)
    else:  # macOS
        os.ftruncate(descriptor, size_bytes)
