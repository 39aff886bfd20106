"""Verified copies of published files on this machine.

It knows files and hashes, not names and manifests.

    <folder>/sha256/<2>/<64>      one read-only file per content, shared by all trees that hold it
    <folder>/trees/<digest>/…     an artifact's tree, made of hard links to those files; the digest
                                  is that of all its files, descriptions included
    <folder>/trees/<digest>.lock  locked while the tree is marked as used, or deleted
    <folder>/trees/<digest>.users/<process>  a mark of each process that uses the tree
    <folder>/processes/<process>  locked by a process until it ends: its marks count as long

Hard links rather than symbolic ones: a tree looks like plain files to every loader, stays complete
when the shared file is deleted, and the link count shows which shared files no tree needs. A link
shares its bytes with the cache, so a program that writes into a fetched file (it is read-only, but
root may) changes the cached content too. Therefore every process hashes a file before it first
returns it, and again when its inode, size or modification time has changed. A copy that does not
match is logged, deleted and fetched again: only the store's copy counts.

A tree never links to the content of a store that is a folder on this machine, whose only copy a
program could then change.
"""

import fcntl
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from weakref import WeakValueDictionary

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.fetch import fetch_file, is_file_intact, read_small, write_file
from dolly_assets.storage.flow import for_each_file, reading_flow
from dolly_assets.storage.manifest import FileEntry
from dolly_assets.storage.object_store import ObjectStore

logger = logging.getLogger(__name__)

READ_ONLY = 0o444
ABANDONED_SECONDS = 24 * 3600  # a temporary file this old belongs to a process that was killed

# By the cache's folder, until the process ends: a fetched path may be in use for as long.
_processes: dict[Path, IO[str]] = {}
_processes_guard = threading.Lock()
# By the path of the shared file, while a thread of this process holds it or waits for it.
_turns: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()
_turns_guard = threading.Lock()


class Cache:
    """The trees of one store on this machine. Several processes may use the same folder at once.

    Args:
        folder: Where the trees are kept.
        store: Where missing files come from.
        limit_bytes: When set, trees that no process uses are deleted, least recently used first,
            until the shared files fit. What is in use stays, even above the limit.
    """

    def __init__(self, folder: Path, store: ObjectStore, limit_bytes: int | None = None) -> None:
        self._folder = folder.expanduser().absolute()
        self._store = store
        self._limit_bytes = limit_bytes
        self._verified: set[tuple[str, int, int, int]] = set()
        self._is_tidied = False

    def tree(self, digest: str, entries: Sequence[FileEntry]) -> Path:
        """Return the folder of an artifact's tree, with at least these files, each verified.

        Raises:
            DamagedFileError: A file is damaged in the store.
            ArtifactError: The store or this machine's disk fails.
        """
        with self._explained():
            self._hold(digest)
            root = self._tree_folder(digest)
            missing = [entry for entry in entries if not self._is_intact(root / entry.path, entry)]
            if missing and not self._is_tidied:
                self._remove_abandoned()
                self._is_tidied = True
            self._fill(root, missing)
            if missing and self._limit_bytes is not None:
                self._evict(self._limit_bytes)
            return root

    def _fill(self, root: Path, missing: Sequence[FileEntry]) -> None:
        flow = reading_flow()
        new = {entry.path: entry for entry in missing if not self._shared(entry.sha256).exists()}

        def take(path: str, data: memoryview) -> None:
            self._place(new[path], root / path, lambda file: write_file(file, data))

        def fetch(entry: FileEntry) -> None:
            # Threads that want the same content fetch it once: the others find it.
            with _turn(self._shared(entry.sha256)):
                self._place(
                    entry,
                    root / entry.path,
                    lambda file: fetch_file(self._store, entry, file, flow),
                )

        arrived = read_small(self._store, new, take, flow)
        left = [entry for entry in missing if entry.path not in arrived]
        for_each_file(fetch, left, lambda entry: entry.size_bytes, flow)

    def find(self, digest: str, entry: FileEntry) -> Path | None:
        """Return the verified local copy of a file, if there is one."""
        with self._explained():
            candidates = (self._tree_folder(digest) / entry.path, self._shared(entry.sha256))
            return next((path for path in candidates if self._is_intact(path, entry)), None)

    def _tree_folder(self, digest: str) -> Path:
        return self._folder / "trees" / digest

    def _shared(self, sha256: str) -> Path:
        return self._folder / "sha256" / sha256[:2] / sha256

    def _is_intact(self, path: Path, entry: FileEntry) -> bool:
        try:
            status = path.stat()
            if status.st_size != entry.size_bytes:
                return False
            seen = (entry.sha256, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen not in self._verified:
                if not is_file_intact(path, entry):
                    return False
                self._verified.add(seen)
        except FileNotFoundError:
            return False
        return True

    def _place(self, entry: FileEntry, target: Path, write: Callable[[Path], None]) -> None:
        """Put a verified file at its place in a tree, in one step.

        Args:
            entry: The file.
            target: Its place.
            write: Fetches the file; called only if there is nothing to link to.
        """
        shared = self._shared(entry.sha256)
        for copy in (target, shared):
            if copy.exists() and not self._is_intact(copy, entry):
                logger.warning(
                    "%s was changed or damaged (expected sha256 %s); fetching it again",
                    copy,
                    entry.sha256,
                )
                copy.unlink(missing_ok=True)
        for folder in (shared.parent, target.parent):
            # Trees have many files, and asking is far cheaper than creating what already exists.
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
        with self._temporary() as temporary:
            if not self._link_shared(shared, temporary):
                write(temporary)
                self._seal(entry, temporary)
                with suppress(FileExistsError):
                    shared.hardlink_to(temporary)
            temporary.replace(target)

    def _link_shared(self, shared: Path, temporary: Path) -> bool:
        try:
            temporary.hardlink_to(shared)
        except FileNotFoundError:
            return False
        return True

    def _seal(self, entry: FileEntry, temporary: Path) -> None:
        """Make a file read-only, and remember that it was written from verified bytes."""
        temporary.chmod(READ_ONLY)
        status = temporary.stat()
        self._verified.add((entry.sha256, status.st_ino, status.st_size, status.st_mtime_ns))

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        folder = self._folder / "temporary"
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
        path = folder / uuid.uuid4().hex
        try:
            yield path
        finally:
            # Also after a rename onto another link of the same file, which does nothing.
            path.unlink(missing_ok=True)

    def _hold(self, digest: str) -> None:
        """Mark a tree as used now, and as in use until this process ends."""
        tree, process = self._tree_folder(digest), self._process()
        mark = tree.with_suffix(".users") / process.name
        mark.parent.mkdir(parents=True, exist_ok=True)
        with tree.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)  # waits while another process deletes the tree
            mark.touch()
            os.utime(lock.fileno())

    def _process(self) -> Path:
        """Return the file that this process keeps locked; a new one after the cache was emptied."""
        with _processes_guard:
            held = _processes.get(self._folder)
            if held is None or not Path(held.name).exists():
                folder = self._folder / "processes"
                folder.mkdir(parents=True, exist_ok=True)
                held = (folder / uuid.uuid4().hex).open("a")
                fcntl.flock(held, fcntl.LOCK_EX)
                _processes[self._folder] = held
            return Path(held.name)

    def _is_used(self, tree: Path) -> bool:
        """Return whether a living process has marked a tree, and delete the marks of others."""
        is_used = False
        for mark in tree.with_suffix(".users").glob("*"):
            if _is_locked(self._folder / "processes" / mark.name):
                is_used = True
            else:
                mark.unlink(missing_ok=True)
        return is_used

    def _evict(self, limit_bytes: int) -> None:
        """Delete trees that no process uses, least recently used first, until the limit is met."""
        for path in sorted(
            (self._folder / "trees").glob("*.lock"), key=lambda path: path.stat().st_mtime_ns
        ):
            if self._remove_unlinked() <= limit_bytes:
                return
            tree = path.with_suffix("")
            with path.open("a") as lock, suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if tree.exists() and not self._is_used(tree):
                    shutil.rmtree(tree)
        self._remove_unlinked()

    def _remove_unlinked(self) -> int:
        """Delete shared files that no tree links to, and return the size of the others."""
        kept_bytes = 0
        for path in (self._folder / "sha256").glob("*/*"):
            status = path.stat()
            if status.st_nlink == 1:
                path.unlink(missing_ok=True)
            else:
                kept_bytes += status.st_size
        return kept_bytes

    def _remove_abandoned(self) -> None:
        """Delete what killed processes have left: unfinished files, and files they had locked."""
        for folder in ("temporary", "processes"):
            for path in (self._folder / folder).glob("*"):
                with suppress(FileNotFoundError):
                    is_old = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
                    if is_old and not _is_locked(path):
                        path.unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArtifactError(
                f"the artifact cache {self._folder} fails: {error.strerror}; free some space, or "
                "set DOLLY_HOME to a writable folder on a file system with hard links"
            ) from error


def _turn(shared: Path) -> threading.Lock:
    """Return the lock of a shared file for the threads of this process."""
    with _turns_guard:
        return _turns.setdefault(shared, threading.Lock())


def _is_locked(path: Path) -> bool:
    """Return whether a process holds this file locked; False if there is no such file."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
