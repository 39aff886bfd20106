"""Opens compressed files, and limits what they may expand to.

Knows bytes and neither records nor columns. A few hundred bytes can hide any size, so that whoever
decompresses counts.
"""

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from dolly_assets.core.errors import DatasetError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2"}
MAX_EXPANSION = 100
"""Limit of the expansion beyond `HARMLESS_BYTES`: text shrinks to about a tenth, so a file that
expands further was built to fill a disk."""
HARMLESS_BYTES = 64 * 2**20
PIECE_BYTES = 2**20


@contextmanager
def open_unpacked(path: Path, *, source: str) -> Iterator[BufferedIOBase]:
    """Open a file, decompressed if its name ends in one of `COMPRESSIONS`.

    Args:
        path: The file.
        source: What errors call it.

    Raises:
        DatasetError: The file is damaged, or expands beyond `most_bytes`; when it is read.
    """
    name = COMPRESSIONS.get(path.suffix.lower())
    with path.open("rb") as file:
        try:
            yield _unpacked(file, name, path, source) if name else file
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the machine, not of the content
            raise DatasetError(
                f"{source}: not a complete {name} file ({error}); compress or copy it again"
            ) from error


def most_bytes(path: Path) -> int:
    """Return the size to which a compressed file may expand."""
    return max(HARMLESS_BYTES, MAX_EXPANSION * path.stat().st_size)


def too_large(source: str, path: Path) -> DatasetError:
    """Return the error of a file that expands beyond `most_bytes`."""
    return DatasetError(
        f"{source}: its {path.stat().st_size:,} bytes expand to more than {most_bytes(path):,}; "
        "split the file, or leave it uncompressed if it really is that repetitive"
    )


class _Readable(Protocol):
    def readinto(self, buffer: "WriteableBuffer", /) -> int: ...


class _Unpacked(RawIOBase):
    """Decompressed content, up to a number of bytes; more is an error."""

    def __init__(self, content: _Readable, limit_bytes: int, error: DatasetError) -> None:
        self._content, self._left_bytes, self._error = content, limit_bytes, error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._content.readinto(buffer)
        self._left_bytes -= count
        if self._left_bytes < 0:
            raise self._error
        return count


def _unpacked(file: BufferedReader, name: str, path: Path, source: str) -> BufferedIOBase:
    content: _Readable
    if name == "gzip":
        content = gzip.GzipFile(fileobj=file)
    elif name == "bzip2":
        content = bz2.BZ2File(file)
    else:
        content = pa.CompressedInputStream(pa.PythonFile(file, "r"), name)
    return BufferedReader(
        _Unpacked(content, most_bytes(path), too_large(source, path)), PIECE_BYTES
    )
