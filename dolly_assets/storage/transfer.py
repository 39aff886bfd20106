"""Moves files between this machine and an object store: in parallel, in chunks, verified.

It knows no names.

A file above CHUNK_BYTES is cut into chunks, each a blob of its own that is named by its hash. So
every put is small and whole, and what is sent once is never sent again: an interrupted upload goes
on within a file, and files that share chunks share blobs. The disk is read once; each chunk is
hashed by name and, in order, into the file's hash.

Reading fetches chunks side by side and compares each with its hash before anybody sees it.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.locks import last_sweep
from dolly_assets.storage.manifest import Blob, FileEntry, check_path, sorted_entries
from dolly_assets.storage.object_store import ObjectStore

logger = logging.getLogger(__name__)

CHUNK_BYTES = 8 * 2**20
CHUNKS_AT_ONCE = 12  # what bounds memory
# A chunk that arrives is hashed and written at once: more of them than the cores keep up with only
# evict each other.
CHUNKS_READ_AT_ONCE = min(CHUNKS_AT_ONCE, 3 * (os.cpu_count() or 1))
# A gateway answers small requests late and not slowly, so many are on their way at once.
SMALL_AT_ONCE = 192
BIG_FILES_AT_ONCE = 4  # each is read and hashed by one thread
SMALL_BYTES = 2**20  # a blob up to here costs about as much to send as to ask for
ABSENT_IN_A_ROW = 8  # then the next small ones are sent without asking
READS = (
    3  # of a blob whose content is wrong, before it counts as damaged: the fault may lie on the way
)

Progress = Callable[[int, int], None]  # (bytes done, bytes in total)
Item = TypeVar("Item")
Result = TypeVar("Result")


class DamagedFileError(ArtifactError):
    """A file's bytes in the store are not those its artifact was published with."""


class MissingBlobError(DamagedFileError):
    """Some of a file's bytes are not in the store at all."""


class Flow:
    """Bounds the bytes that all threads of a transfer hold, and stops them together.

    Attributes:
        least_bytes: what a smaller request takes, too; there is room for SMALL_AT_ONCE of them.
    """

    def __init__(self, chunks_at_once: int) -> None:
        self._free_bytes = chunks_at_once * CHUNK_BYTES
        self.least_bytes = self._free_bytes // SMALL_AT_ONCE
        self._changed = threading.Condition()
        self._reason: BaseException | None = None

    def take(self, size_bytes: int) -> int:
        """Waits until there is room; returns what to give back.

        Raises when the transfer was stopped.
        """
        cost = max(size_bytes, self.least_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._reason or self._free_bytes >= cost)
            if self._reason:
                raise self._reason
            self._free_bytes -= cost
        return cost

    def give_back(self, cost: int) -> None:
        """Makes room again."""
        with self._changed:
            self._free_bytes += cost
            self._changed.notify()

    @contextmanager
    def room(self, size_bytes: int) -> Iterator[None]:
        """Room for so many bytes while the block runs."""
        cost = self.take(size_bytes)
        try:
            yield
        finally:
            self.give_back(cost)

    def stop(self, reason: BaseException) -> None:
        """Lets every thread that asks for room fail with this reason."""
        with self._changed:
            self._reason = self._reason or reason
            self._changed.notify_all()


def reading_flow() -> Flow:
    """The bounds of what is fetched."""
    return Flow(CHUNKS_READ_AT_ONCE)


class Sender:
    """Puts contents into one store, each once, and remembers what it has sent itself.

    Attributes:
        sent_bytes: of all content that it has put there so far.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.sent_bytes = 0
        self._lock = threading.Lock()
        self._sent: dict[str, bytes | None] = {}  # sha256 -> the last sweep before it was sent
        self._absent_in_a_row = 0
        self._sweep: bytes | None = None

    def begin(self) -> None:
        """Before the first `send` of an upload."""
        self._sweep = last_sweep(self._store)

    def send(self, data: bytes, start: int = 0) -> Blob:
        """Returns when the store has this content, which is sent only if it lacks it."""
        blob = _blob_of(data, start)
        if blob.size_bytes <= SMALL_BYTES and self._absent_in_a_row >= ABSENT_IN_A_ROW:
            if self._store.create(blob.key, data):
                self._note_sent(blob)
                return blob
            self._absent_in_a_row = 0
        if has_blob(self._store, blob):
            self._absent_in_a_row = 0
        else:
            self._store.write(blob.key, data)
            self._note_sent(blob)
            self._absent_in_a_row += 1
        return blob

    def send_small(
        self, files: Mapping[str, Path], advance: Callable[[int], None]
    ) -> dict[str, Blob]:
        """Sends small files, very many at once, as long as it looks as if the store lacks them all.

        Returns:
            What it has got; the rest is left to `send`.
        """
        reading: dict[str, tuple[str, Blob]] = {}
        sent: dict[str, Blob] = {}
        if not files or self._absent_in_a_row < ABSENT_IN_A_ROW:
            return sent

        def contents() -> Iterator[tuple[str, bytes]]:
            for path, source in files.items():
                data = source.read_bytes()
                blob = _blob_of(data)
                if blob.key not in reading:
                    reading[blob.key] = path, blob
                    yield blob.key, data

        def done(key: str) -> None:
            path, blob = reading[key]
            self._note_sent(blob)
            sent[path] = blob
            advance(blob.size_bytes)

        self._store.create_each(contents(), done, SMALL_AT_ONCE)
        return sent

    def _note_sent(self, blob: Blob) -> None:
        with self._lock:
            self._sent[blob.sha256] = self._sweep
            self.sent_bytes += blob.size_bytes

    def lacking(self, blobs: Iterable[Blob]) -> set[str]:
        """SHA-256 of the contents that the store does not have.

        It is asked for all but those that this sender has put there since the last sweep.
        """
        sweep = last_sweep(self._store)
        unsure = [blob for blob in blobs if self._sent.get(blob.sha256, b"") != sweep]
        there = in_parallel(lambda blob: has_blob(self._store, blob), unsure, SMALL_AT_ONCE)
        return {blob.sha256 for blob, present in zip(unsure, there, strict=True) if not present}


def _blob_of(data: bytes, start: int = 0) -> Blob:
    return Blob(hashlib.sha256(data).hexdigest(), start, len(data))


def tree_files(tree: Path | Mapping[str, Path]) -> dict[str, Path]:
    """The files of a folder, or of a mapping from path in the artifact to local file.

    Links to files are followed. Empty folders are not kept.

    Raises:
        ArtifactError: nothing to publish; a path that could climb out; something that is not a
            plain file.
    """
    files = _folder_files(tree) if isinstance(tree, Path) else dict(tree)
    if not files:
        raise ArtifactError(
            f"{tree if isinstance(tree, Path) else 'the mapping'} holds no file to publish"
        )
    for path, source in files.items():
        try:
            check_path(path)
        except ValueError as error:
            raise ArtifactError(f"cannot publish {source}: {error}") from error
        if not source.is_file():
            raise ArtifactError(
                f"cannot publish {source}: it is not a file; links to folders are not followed"
            )
    return files


def _folder_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ArtifactError(f"cannot publish {folder}: there is no such folder")
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in found}


def send_files(
    sender: Sender, files: Mapping[str, Path], on_progress: Progress | None = None
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
        flow = Flow(CHUNKS_AT_ONCE)
        sender.begin()
        with ThreadPoolExecutor(CHUNKS_AT_ONCE) as pool:

            def send(path: str) -> FileEntry:
                if sizes[path] <= CHUNK_BYTES:
                    return _send_small(sender, path, files[path], flow, advance)
                return _send_big(sender, path, files[path], pool, flow, advance)

            small = [path for path in files if sizes[path] <= flow.least_bytes]
            first = small[:ABSENT_IN_A_ROW]  # they show whether the store lacks them
            entries = for_each_file(
                send, (files.keys() - small) | set(first), sizes.__getitem__, flow
            )
            many = {path: files[path] for path in small[ABSENT_IN_A_ROW:]}
            sent = sender.send_small(many, advance)
            entries += [_entry(path, blob) for path, blob in sent.items()]
            entries += for_each_file(send, many.keys() - sent, sizes.__getitem__, flow)
            return sorted_entries(entries)
    except OSError as error:
        raise ArtifactError(
            f"cannot publish {error.filename or 'the files'}: {error.strerror or error}"
        ) from error


def _send_small(
    sender: Sender, path: str, source: Path, flow: Flow, advance: Callable[[int], None]
) -> FileEntry:
    with flow.room(source.stat().st_size):
        blob = sender.send(source.read_bytes())
    advance(blob.size_bytes)
    return _entry(path, blob)


def _entry(path: str, blob: Blob) -> FileEntry:
    return FileEntry(path=path, size_bytes=blob.size_bytes, sha256=blob.sha256)


def _send_big(
    sender: Sender,
    path: str,
    source: Path,
    pool: ThreadPoolExecutor,
    flow: Flow,
    advance: Callable[[int], None],
) -> FileEntry:
    whole = hashlib.sha256()
    coming: list[Future[Blob]] = []

    def send(chunk: bytes, cost: int) -> Blob:
        try:
            blob = sender.send(chunk)
            advance(len(chunk))
            return blob
        except BaseException as error:
            flow.stop(error)
            raise
        finally:
            flow.give_back(cost)

    with source.open("rb") as file:
        before = os.fstat(file.fileno())
        while True:
            cost = flow.take(CHUNK_BYTES)
            if not (chunk := file.read(CHUNK_BYTES)):
                flow.give_back(cost)
                break
            coming.append(pool.submit(send, chunk, cost))
            whole.update(chunk)
        chunks = tuple(blob.result().sha256 for blob in coming)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ArtifactError(
            f"{source} changed while it was published; publish it when it is complete"
        )
    return FileEntry(
        path=path,
        size_bytes=after.st_size,
        sha256=whole.hexdigest(),
        chunk_bytes=CHUNK_BYTES,
        chunks=chunks,
    )


def has_blob(store: ObjectStore, blob: Blob) -> bool:
    """Whether the store holds a blob in full. One of another size is damaged and gets a warning."""
    found_bytes = store.size_bytes(blob.key)
    if found_bytes not in (None, blob.size_bytes):
        logger.warning(
            "%s has %d bytes instead of %d", store.url_of(blob.key), found_bytes, blob.size_bytes
        )
    return found_bytes == blob.size_bytes


def read_blob(store: ObjectStore, path: str, blob: Blob) -> memoryview:
    """A piece of the file of this path, verified.

    Raises:
        DamagedFileError: the store has other bytes, or none (MissingBlobError).
        ArtifactError: the store fails.
    """
    if not blob.size_bytes:
        return memoryview(b"")
    data, found = memoryview(b""), ""
    for _ in range(READS):
        try:
            data = store.read(blob.key, 0, blob.size_bytes)
        except ArtifactError:
            # A truncated blob makes a store refuse the range; only the size tells that from a store
            # that fails.
            stored_bytes = store.size_bytes(blob.key)
            if stored_bytes is None:
                raise MissingBlobError(_damage(store, path, blob, "nothing")) from None
            if stored_bytes == blob.size_bytes:
                raise
            raise DamagedFileError(_damage(store, path, blob, f"{stored_bytes} bytes")) from None
        found = hashlib.sha256(data).hexdigest()
        if found == blob.sha256:
            return data
        logger.warning(
            "%s came with other content (sha256 %s, %d bytes)",
            store.url_of(blob.key),
            found,
            len(data),
        )
    raise DamagedFileError(_damage(store, path, blob, f"{found} ({len(data)} bytes)"))


def _damage(store: ObjectStore, path: str, blob: Blob, found: str) -> str:
    return (
        f"file {path!r} is damaged in the store from byte {blob.start}: expected sha256 {blob.sha256} "
        f"({blob.size_bytes} bytes), found {found}; remove {store.url_of(blob.key)} and publish the same content again"
    )


def fetch_files(
    store: ObjectStore, files: Mapping[Path, FileEntry], on_progress: Progress | None = None
) -> None:
    """Writes new files, each verified.

    Those that are there when it fails are not all, and one may be in part.
    """
    flow = reading_flow()
    advance = _counter(sum(entry.size_bytes for entry in files.values()), on_progress)
    for folder in {target.parent for target in files}:
        folder.mkdir(parents=True, exist_ok=True)

    def place(target: Path, data: memoryview) -> None:
        write_file(target, data)
        advance(len(data))

    for_each_file(
        lambda target: fetch_file(store, files[target], target, flow, advance),
        files.keys() - read_small(store, files, place, flow),
        lambda target: files[target].size_bytes,
        flow,
    )


def read_small(
    store: ObjectStore,
    files: Mapping[Item, FileEntry],
    take: Callable[[Item, memoryview], None],
    flow: Flow,
) -> set[Item]:
    """Reads the small files among these from a remote store, very many at once; `take` gets each one's content.

    Returns:
        The files that came, verified. What is damaged or fails is left to be read by itself, which
        tells why.
    """
    wanted: dict[str, list[Item]] = {}
    for item, entry in files.items():
        if 0 < entry.size_bytes <= flow.least_bytes and store.local_path(entry.blob_key) is None:
            wanted.setdefault(entry.blob_key, []).append(item)
    came: set[Item] = set()

    def verify(key: str, data: memoryview) -> None:
        if hashlib.sha256(data).hexdigest() == files[wanted[key][0]].sha256:
            for item in wanted[key]:
                take(item, data)
                came.add(item)

    if wanted:
        sizes = {key: files[items[0]].size_bytes for key, items in wanted.items()}
        store.read_each(sizes, verify, SMALL_AT_ONCE)
    return came


def write_file(target: Path, data: memoryview) -> None:
    """Writes a new file."""
    with target.open("xb", buffering=0) as file:
        _write_at(file.fileno(), data, 0)


def fetch_file(
    store: ObjectStore,
    entry: FileEntry,
    target: Path,
    flow: Flow,
    advance: Callable[[int], None] = lambda size_bytes: None,
) -> None:
    """Writes a new file from its verified pieces, which come side by side."""
    with target.open("xb", buffering=0) as file:

        def place(blob: Blob) -> None:
            with flow.room(blob.size_bytes):
                data = read_blob(store, entry.path, blob)
                _write_at(file.fileno(), data, blob.start)
            advance(blob.size_bytes)

        in_parallel(place, entry.blobs, CHUNKS_READ_AT_ONCE, flow)


def _write_at(descriptor: int, data: memoryview, start: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, start)
        data, start = data[written:], start + written


def in_parallel(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    at_once: int = 8,
    flow: Flow | None = None,
) -> list[Result]:
    """The function's results in the items' order.

    The first error stops the flow and cancels what has not begun.
    """
    items = list(items)
    if len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException as error:
            if flow:
                flow.stop(error)
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def for_each_file(
    function: Callable[[Item], Result],
    files: Iterable[Item],
    size_bytes: Callable[[Item], int],
    flow: Flow,
) -> list[Result]:
    """The function's results: first for the big files, a few at once, then for the small ones, many at once."""
    by_size = sorted(files, key=size_bytes, reverse=True)
    big = [file for file in by_size if size_bytes(file) > CHUNK_BYTES]
    small = by_size[len(big) :]
    return [
        *in_parallel(function, big, BIG_FILES_AT_ONCE, flow),
        *in_parallel(function, small, SMALL_AT_ONCE, flow),
    ]


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
