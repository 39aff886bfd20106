"""Fetches files from an object store to this machine: in parallel, in chunks, verified.

Chunks arrive side by side, and each is compared with its hash before a caller sees it. It knows no
artifact names.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from dolly_assets.storage.blobs import read_blob
from dolly_assets.storage.flow import (
    CHUNKS_READ_AT_ONCE,
    SMALL_AT_ONCE,
    Flow,
    Item,
    Progress,
    byte_counter,
    for_each_file,
    in_parallel,
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
        sizes = {key: files[items[0]].size_bytes for key, items in wanted.items()}
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
    """Write a new file from its verified pieces, which arrive side by side."""
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


def is_file_intact(path: Path, entry: FileEntry) -> bool:
    """Return whether a local file has the entry's content."""
    if path.stat().st_size != entry.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
