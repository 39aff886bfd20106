"""Moves files between this machine and an object store: in parallel, in parts, verified. It knows no names.

A blob is named by its content's hash, so a file is hashed first, sent only if the store lacks it, and read
a second time (from the page cache, as a rule) while it is sent. It is hashed again on the way: a file that
changes in between is refused instead of filling a blob with other content than its name says. Files of one
part are read only once.
"""

import hashlib
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from dolly_assets.errors import ArtifactError
from dolly_assets.storage.manifest import FileEntry, check_path, sorted_entries
from dolly_assets.storage.object_store import ObjectStore

logger = logging.getLogger(__name__)

PART_BYTES = 5 * 2**20  # the least S3 allows
# Of one S3 multipart upload, https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PARTS = 10_000
FILES_AT_ONCE = 8
PARTS_AT_ONCE = 16  # over all files on their way: what bounds memory, to about PARTS_AT_ONCE * PART_BYTES

Progress = Callable[[int, int], None]  # (bytes done, bytes in total)
Item = TypeVar("Item")
Result = TypeVar("Result")


class DamagedFileError(ArtifactError):
    """A file's bytes in the store are not those its artifact was published with."""


def tree_files(tree: Path | Mapping[str, Path]) -> dict[str, Path]:
    """The files of a folder, or of a mapping from path in the artifact to local file.

    Links to files are followed. Empty folders are not kept.

    Raises:
        ArtifactError: nothing to publish; a path that could climb out; something that is not a plain file.
    """
    files = _folder_files(tree) if isinstance(tree, Path) else dict(tree)
    if not files:
        raise ArtifactError(f"{tree if isinstance(tree, Path) else 'the mapping'} holds no file to publish")
    for path, source in files.items():
        try:
            check_path(path)
        except ValueError as error:
            raise ArtifactError(f"cannot publish {source}: {error}") from error
        if not source.is_file():
            raise ArtifactError(f"cannot publish {source}: it is not a file; links to folders are not followed")
    return files


def _folder_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ArtifactError(f"cannot publish {folder}: there is no such folder")
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in found}


def send_files(
    store: ObjectStore, files: Mapping[str, Path], on_progress: Progress | None = None
) -> tuple[FileEntry, ...]:
    """Puts every file's content into the store, unless it is there.

    Returns:
        The files' entries, sorted by path.

    Raises:
        ArtifactError: a file cannot be read or changes meanwhile; the store fails.
    """
    try:
        sizes = {path: source.stat().st_size for path, source in files.items()}
        advance = _counter(sum(sizes.values()), on_progress)
        parts_at_once = share_of_parts(sizes.values())

        def send(path: str) -> FileEntry:
            if sizes[path] <= PART_BYTES:
                return _send_small(store, path, files[path], advance)
            return _send_big(store, path, files[path], parts_at_once, advance)

        return sorted_entries(in_parallel(send, sorted(files, key=lambda path: -sizes[path])))
    except OSError as error:
        raise ArtifactError(f"cannot publish {error.filename}: {error.strerror}") from error


def _send_small(store: ObjectStore, path: str, source: Path, advance: Callable[[int], None]) -> FileEntry:
    data = source.read_bytes()
    entry = FileEntry(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    if not has_blob(store, entry):
        store.write(entry.blob_key, data)
    advance(len(data))
    return entry


def _send_big(
    store: ObjectStore, path: str, source: Path, parts_at_once: int, advance: Callable[[int], None]
) -> FileEntry:
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        entry = FileEntry(path=path, size_bytes=file.tell(), sha256=sha256)
    if has_blob(store, entry):
        advance(entry.size_bytes)
        return entry
    part_bytes = max(PART_BYTES, math.ceil(entry.size_bytes / MAX_PARTS))
    parts = _file_parts(source, entry, part_bytes, advance)
    store.write_parts(entry.blob_key, parts, part_bytes, parts_at_once)
    return entry


def has_blob(store: ObjectStore, entry: FileEntry) -> bool:
    """Whether the store holds the entry's blob in full. One of another size is damaged and gets a warning."""
    found_bytes = store.size_bytes(entry.blob_key)
    if found_bytes not in (None, entry.size_bytes):
        logger.warning("%s has %d bytes instead of %d", store.url_of(entry.blob_key), found_bytes, entry.size_bytes)
    return found_bytes == entry.size_bytes


def _file_parts(source: Path, entry: FileEntry, part_bytes: int, advance: Callable[[int], None]) -> Iterator[bytes]:
    content = hashlib.sha256()
    with source.open("rb", buffering=0) as file:
        while part := file.read(part_bytes):
            content.update(part)
            yield part
            advance(len(part))
    # Raised before the store has put the parts together, so that nothing appears under the wrong name.
    if content.hexdigest() != entry.sha256:
        raise ArtifactError(f"{source} changed while it was published; publish it when it is complete")


def read_verified(store: ObjectStore, entry: FileEntry, parts_at_once: int = 2) -> Iterator[memoryview]:
    """A file's parts in order. Only when the last one has come are they known to be what was published.

    Raises:
        DamagedFileError: the blob is missing, or its size or hash is another.
        ArtifactError: the store fails.
    """
    content = hashlib.sha256()
    found_bytes = 0
    try:
        for part in _read_parts(store, entry, parts_at_once):
            content.update(part)
            found_bytes += len(part)
            yield part
    except ArtifactError:
        # A truncated blob makes a store refuse the range; only the size tells that from a store that fails.
        stored_bytes = store.size_bytes(entry.blob_key)
        if stored_bytes != entry.size_bytes:
            raise _damage(store, entry, "nothing" if stored_bytes is None else f"{stored_bytes} bytes") from None
        raise
    if content.hexdigest() != entry.sha256:
        raise _damage(store, entry, f"{content.hexdigest()} ({found_bytes} bytes)")


def _read_parts(store: ObjectStore, entry: FileEntry, parts_at_once: int) -> Iterator[memoryview]:
    starts = range(0, entry.size_bytes, PART_BYTES)
    lengths = [min(PART_BYTES, entry.size_bytes - start) for start in starts]
    if len(starts) <= 1:
        yield from (store.read(entry.blob_key, *part) for part in zip(starts, lengths, strict=True))
        return
    coming: deque = deque()
    with ThreadPoolExecutor(parts_at_once) as pool:
        for start, length in zip(starts, lengths, strict=True):
            if len(coming) == parts_at_once:
                yield coming.popleft().result()
            coming.append(pool.submit(store.read, entry.blob_key, start, length))
        while coming:
            yield coming.popleft().result()


def _damage(store: ObjectStore, entry: FileEntry, found: str) -> DamagedFileError:
    return DamagedFileError(
        f"file {entry.path!r} is damaged in the store: expected sha256 {entry.sha256} "
        f"({entry.size_bytes} bytes), found {found}; remove {store.url_of(entry.blob_key)} and publish "
        "the same content again"
    )


def share_of_parts(sizes_bytes: Iterable[int]) -> int:
    """How many parts each big file may have on its way, so that all together stay within PARTS_AT_ONCE."""
    big_files = sum(size > PART_BYTES for size in sizes_bytes)
    return PARTS_AT_ONCE // max(1, min(FILES_AT_ONCE, big_files))


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The function's results in the items' order. The first error cancels what has not begun."""
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def is_file_intact(path: Path, entry: FileEntry) -> bool:
    """Whether a local file has the entry's content."""
    if path.stat().st_size != entry.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256


def _counter(total_bytes: int, on_progress: Progress | None) -> Callable[[int], None]:
    """Adds up what several threads have done, and reports it to one listener at a time."""
    lock, done_bytes = threading.Lock(), 0

    def advance(size_bytes: int) -> None:
        nonlocal done_bytes
        with lock:
            done_bytes += size_bytes
            if on_progress:
                on_progress(done_bytes, total_bytes)

    return advance
