"""Fetches files from an object store to this machine: in parallel, in chunks, verified.

Chunks arrive side by side. What names an artifact is the hash of each whole file, so that is what a
file is compared with before a caller sees it: it is hashed while its chunks are placed, in the
file's order. Only if that hash differs are the chunks compared with theirs, to read again the one
that the connection has corrupted or to name the one that is damaged. It knows no artifact names.
"""

import hashlib
import mmap
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from dolly_assets.storage.blobs import foreign_chunks, read_blob, read_unverified
from dolly_assets.storage.flow import (
    SMALL_AT_ONCE,
    Flow,
    Item,
    Progress,
    byte_counter,
    for_each_chunk,
    for_each_file,
    reading_flow,
)
from dolly_assets.storage.manifest import Blob, FileEntry
from dolly_assets.storage.object_store import ObjectStore


def fetch_files(
    store: ObjectStore, files: Mapping[Path, FileEntry], on_progress: Progress | None = None
) -> None:
    """Write new files, each verified.

    When it fails, some files are missing and one may be incomplete.
    """
    flow = reading_flow()
    advance = byte_counter(sum(entry.size_bytes for entry in files.values()), on_progress)
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
    """Read the small files among these from a remote store, very many at once.

    Args:
        store: Where they are.
        files: What to read; big files are left out.
        take: Called with each file and its verified content.
        flow: Decides what counts as small.

    Returns:
        The files that arrived, verified. One that is damaged or fails is left to be read on its
        own, which reports why.
    """
    wanted: dict[str, list[Item]] = {}
    for item, entry in files.items():
        if 0 < entry.size_bytes <= flow.least_bytes and store.local_path(entry.blob_key) is None:
            wanted.setdefault(entry.blob_key, []).append(item)
    arrived: set[Item] = set()

    def verify(key: str, data: memoryview) -> None:
        if hashlib.sha256(data).hexdigest() == files[wanted[key][0]].sha256:
            for item in wanted[key]:
                take(item, data)
                arrived.add(item)

    if wanted:
        # One byte more than there should be, so that what was appended is noticed.
        sizes = {key: files[items[0]].size_bytes + 1 for key, items in wanted.items()}
        store.read_each(sizes, verify, SMALL_AT_ONCE)
    return arrived


def write_file(target: Path, data: memoryview) -> None:
    """Write a new file."""
    with target.open("xb", buffering=0) as file:
        _write_at(file.fileno(), data, 0)


def fetch_file(
    store: ObjectStore,
    entry: FileEntry,
    target: Path,
    flow: Flow,
    advance: Callable[[int], None] = lambda size_bytes: None,
) -> None:
    """Write a new file from its pieces, which arrive side by side, and compare it with its hash.

    Raises:
        DamagedFileError: The store has other bytes, or none.
        ArtifactError: The store fails.
    """
    with target.open("x+b", buffering=0) as file:
        if entry.chunks:
            _fetch_chunks(store, entry, file.fileno(), flow, advance)
            return
        with flow.room(entry.size_bytes):
            _write_at(file.fileno(), read_blob(store, entry.path, entry.blobs[0]), 0)
        advance(entry.size_bytes)


def _fetch_chunks(
    store: ObjectStore,
    entry: FileEntry,
    descriptor: int,
    flow: Flow,
    advance: Callable[[int], None],
) -> None:
    os.ftruncate(descriptor, entry.size_bytes)
    with mmap.mmap(descriptor, entry.size_bytes, access=mmap.ACCESS_READ) as placed:
        whole = _OrderedHash(placed)

        def place(blob: Blob) -> None:
            with flow.room(blob.size_bytes):
                data = read_unverified(store, entry.path, blob)
                _write_at(descriptor, data, blob.start)
                whole.add(blob.start, data)
            advance(blob.size_bytes)

        for_each_chunk(place, entry.blobs, flow)
        if whole.hexdigest() != entry.sha256:
            _repair(store, entry, placed, descriptor, flow)


def _repair(
    store: ObjectStore, entry: FileEntry, placed: mmap.mmap, descriptor: int, flow: Flow
) -> None:
    """Read chunks that arrived with other content again, and hash the whole file once more."""
    with memoryview(placed) as everything:

        def check(blob: Blob) -> None:
            with flow.room(blob.size_bytes):
                # Released at once: an error's traceback would keep it, and the mapping open.
                with everything[blob.start : blob.start + blob.size_bytes] as data:
                    is_as_named = hashlib.sha256(data).hexdigest() == blob.sha256
                if not is_as_named:
                    _write_at(descriptor, read_blob(store, entry.path, blob), blob.start)

        for_each_chunk(check, entry.blobs, flow)
    if hashlib.sha256(placed).hexdigest() != entry.sha256:
        raise foreign_chunks(entry.path, entry.sha256)


class _OrderedHash:
    """SHA-256 of a file whose chunks are placed in any order by several threads.

    A chunk is hashed once all that precede it are, by whichever thread finds that it can be. It is
    read where it was placed, which the system still holds in memory, so no thread keeps it.

    Args:
        placed: The file, mapped.
    """

    def __init__(self, placed: mmap.mmap) -> None:
        self._placed_bytes = placed
        self._hash = hashlib.sha256()
        self._end = 0  # of what is hashed
        self._placed: dict[int, int] = {}  # start -> size of chunks that are not hashed yet
        self._is_hashing = False
        self._lock = threading.Lock()

    def add(self, start: int, data: memoryview) -> None:
        """Note a chunk that was placed, and hash what can be hashed, unless another thread does."""
        with self._lock:
            self._placed[start] = len(data)
            if self._is_hashing:
                return
            self._is_hashing = True
        while (next_bytes := self._next()) is not None:
            if self._end == start:
                self._hash.update(data)
            else:
                with memoryview(self._placed_bytes) as everything:
                    self._hash.update(everything[self._end : self._end + next_bytes])
            self._end += next_bytes

    def _next(self) -> int | None:
        """Return the size of the chunk that is to be hashed now; None ends this thread's turn."""
        with self._lock:
            size_bytes = self._placed.pop(self._end, None)
            self._is_hashing = size_bytes is not None
            return size_bytes

    def hexdigest(self) -> str:
        """Return the hash of what was placed without a gap from the start, in hex."""
        return self._hash.hexdigest()


def _write_at(descriptor: int, data: memoryview, start: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, start)
        data, start = data[written:], start + written


def is_file_intact(path: Path, entry: FileEntry) -> bool:
    """Return whether a local file has the entry's content."""
    if path.stat().st_size != entry.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
