"""Sends files from this machine to an object store: in parallel, in chunks, each content once.

A file above CHUNK_BYTES is split into chunks, each a blob of its own that is named by its hash. So
every put is small and atomic, and what was sent once is never sent again: an interrupted upload
resumes within a file, and files that share chunks share blobs. The disk is read once; each chunk is
hashed for its name and, in order, into the file's hash. It knows no artifact names.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.blobs import has_blob, repair_blob
from dolly_assets.storage.flow import (
    CHUNK_BYTES,
    CHUNKS_AT_ONCE,
    SMALL_AT_ONCE,
    Flow,
    Progress,
    byte_counter,
    for_each_file,
    in_parallel,
    sending_flow,
)
from dolly_assets.storage.locks import last_sweep
from dolly_assets.storage.manifest import Blob, FileEntry, check_path, sorted_entries
from dolly_assets.storage.object_store import ObjectStore

SMALL_BYTES = 2**20  # a blob up to this size costs about as much to send as to ask for
ABSENT_IN_A_ROW = 8  # then the next small ones are sent without asking


class Sender:
    """Puts contents into one store, each once, and remembers what it has sent itself.

    Attributes:
        sent_bytes: The size of all content that it has sent so far.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.sent_bytes = 0
        self._lock = threading.Lock()
        self._sent: dict[str, bytes | None] = {}  # sha256 -> the last sweep before it was sent
        self._absent_in_a_row = 0
        self._sweep: bytes | None = None

    def begin(self) -> None:
        """Prepare for an upload; call it before its first `send`."""
        self._sweep = last_sweep(self._store)

    def send(self, data: bytes, start: int = 0) -> Blob:
        """Return when the store has this content, which is sent only if the store lacks it.

        Every put is a create, so that a store can refuse any other for published content; only a
        damaged blob is overwritten, with the bytes that it must have.

        Raises:
            ArtifactError: The store fails; it holds a damaged blob and refuses to overwrite it.
        """
        blob = _blob_of(data, start)
        is_sent_unasked = (
            blob.size_bytes <= SMALL_BYTES and self._absent_in_a_row >= ABSENT_IN_A_ROW
        )
        if is_sent_unasked or not has_blob(self._store, blob):
            if self._store.create(blob.key, data):
                self._note_sent(blob)
                self._absent_in_a_row += 1
                return blob
            if not has_blob(self._store, blob):
                repair_blob(self._store, blob, data)
                self._note_sent(blob)
        self._absent_in_a_row = 0
        return blob

    def send_small(
        self, files: Mapping[str, Path], advance: Callable[[int], None]
    ) -> dict[str, Blob]:
        """Send small files, very many at once, as long as the store seems to lack them all.

        Args:
            files: Path in the artifact -> local file.
            advance: Called with the size of each file that was sent.

        Returns:
            What was sent; the rest is left to `send`.
        """
        reading: dict[str, tuple[str, Blob]] = {}
        sent: dict[str, Blob] = {}
        if not files or self._absent_in_a_row < ABSENT_IN_A_ROW:
            return sent

        def contents() -> Iterator[tuple[str, bytes]]:
            for path, source in files.items():
                data = _read_whole(source)
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
        """Return the SHA-256 of each content that the store does not have.

        The store is asked for all but those that this sender has put there since the last sweep.
        """
        sweep = last_sweep(self._store)
        unsure = [blob for blob in blobs if self._sent.get(blob.sha256, b"") != sweep]
        present = in_parallel(lambda blob: has_blob(self._store, blob), unsure, SMALL_AT_ONCE)
        return {
            blob.sha256 for blob, is_present in zip(unsure, present, strict=True) if not is_present
        }


def _blob_of(data: bytes, start: int = 0) -> Blob:
    return Blob(hashlib.sha256(data).hexdigest(), start, len(data))


def tree_files(tree: Path | Mapping[str, Path]) -> dict[str, Path]:
    """Return the files of a folder, or of a mapping from path in the artifact to local file.

    Links to files within the folder are followed. Empty folders are left out.

    Raises:
        ArtifactError: There is nothing to publish, a path or a link leaves its folder, or something
            is not a regular file.
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
    found = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    root = folder.resolve()
    for path in found:
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ArtifactError(
                f"cannot publish {path}: it is a link to {path.resolve()}, outside {folder}; if "
                "that is meant, copy the folder with cp -rL and publish the copy"
            )
    return {path.relative_to(folder).as_posix(): path for path in found}


def send_files(
    sender: Sender, files: Mapping[str, Path], on_progress: Progress | None = None
) -> tuple[FileEntry, ...]:
    """Put every file's content into the store, unless the store already has it.

    Returns:
        The files' entries, sorted by path.

    Raises:
        ArtifactError: A file cannot be read or changes meanwhile; the store fails.
    """
    try:
        sizes = {path: source.stat().st_size for path, source in files.items()}
        advance = byte_counter(sum(sizes.values()), on_progress)
        flow = sending_flow()
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
        blob = sender.send(_read_whole(source))
    advance(blob.size_bytes)
    return _entry(path, blob)


def _read_whole(source: Path) -> bytes:
    """Read a file of at most one chunk.

    Raises:
        ArtifactError: It changes meanwhile, or has grown beyond a chunk.
    """
    with source.open("rb") as file:
        before = os.fstat(file.fileno())
        data = file.read(CHUNK_BYTES + 1)
        after = os.fstat(file.fileno())
    if _differs(before, after) or len(data) != before.st_size:
        raise _changed(source)
    return data


def _differs(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


def _changed(source: Path) -> ArtifactError:
    return ArtifactError(
        f"{source} changed while it was being published; publish it when it is complete"
    )


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
    sending: list[Future[Blob]] = []

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
        for chunk, cost in _chunks(file, flow):
            sending.append(pool.submit(send, chunk, cost))
            whole.update(chunk)
        chunks = tuple(blob.result().sha256 for blob in sending)
        after = os.fstat(file.fileno())
    if _differs(before, after):
        raise _changed(source)
    return FileEntry(
        path=path,
        size_bytes=after.st_size,
        sha256=whole.hexdigest(),
        chunk_bytes=CHUNK_BYTES,
        chunks=chunks,
    )


def _chunks(file: BinaryIO, flow: Flow) -> Iterator[tuple[bytes, int]]:
    """Yield each chunk of a file, and the room that it holds, which its user gives back."""
    while True:
        cost, chunk = flow.take(CHUNK_BYTES), b""
        try:
            chunk = file.read(CHUNK_BYTES)
        finally:
            if not chunk:
                flow.give_back(cost)
        if not chunk:
            return
        yield chunk, cost
