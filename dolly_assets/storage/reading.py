"""A published artifact as a reader has it: a handle whose files are fetched on demand, verified."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.core.errors import ArtifactError, some_of
from dolly_assets.storage.blobs import MissingBlobError, has_blob, read_blob
from dolly_assets.storage.cache import Cache
from dolly_assets.storage.fetch import fetch_files
from dolly_assets.storage.flow import SMALL_AT_ONCE, Progress, in_parallel
from dolly_assets.storage.gc import read_dropped
from dolly_assets.storage.manifest import FileEntry, Manifest
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.tables import open_table

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Artifact:
    """A published file tree.

    Holding it costs nothing: files are fetched on demand, and verified.

    Attributes:
        manifest: What was published.
    """

    manifest: Manifest
    _store: ObjectStore = field(repr=False)
    _cache: Cache = field(repr=False)

    @property
    def name(self) -> str:
        """Its name, for example `demo/model_checkpoint/demo/01`."""
        return self.manifest.name

    @property
    def digest(self) -> str:
        """SHA-256 of the list of files, without descriptions, in hex: equal for equal content."""
        return self.manifest.digest

    @property
    def uri(self) -> str:
        """The URL of the manifest."""
        return self._store.url_of(self.manifest.key)

    @property
    def size_bytes(self) -> int:
        """The total size of all files."""
        return self.manifest.size_bytes

    def holds(self, path: str) -> bool:
        """Return whether it has a file at this path."""
        return any(entry.path == path for entry in self.manifest.files)

    def fetch(self, subtree: str = "") -> Path:
        """Return a local folder with the tree, or with a subtree; every file is verified.

        The files are read-only and stay while this process lives. Copy what you want to change or
        keep.

        Args:
            subtree: A folder or file of the artifact; all of it if empty.

        Raises:
            DamagedFileError: A file is damaged in the store.
            ArtifactError: There is no such subtree; the store or the disk fails.
        """
        wanted = [entry for entry in self.manifest.files if _is_within(entry.path, subtree)]
        if not wanted:
            raise self._no_such_path(subtree)
        with self._dropped_explained(wanted):
            return self._cache.tree(self.manifest.tree_digest, wanted) / subtree

    def copy_to(
        self, folder: Path, subtree: str = "", *, on_progress: Progress | None = None
    ) -> None:
        """Write the tree, or a subtree, into a new or empty folder, verified, bypassing the cache.

        Args:
            folder: Where to write.
            subtree: As in `fetch`.
            on_progress: Called with (bytes done, bytes in total), by one thread at a time.

        Raises:
            DamagedFileError: A file is damaged in the store; the folder is left unchanged.
            ArtifactError: There is no such subtree; the folder is not empty; the store or the disk
                fails.
        """
        wanted = [entry for entry in self.manifest.files if _is_within(entry.path, subtree)]
        if not wanted:
            raise self._no_such_path(subtree)
        # A single file keeps its name, a folder's files their paths in it.
        base = subtree if subtree != wanted[0].path else subtree.rpartition("/")[0]
        try:
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ArtifactError(f"{folder} already exists: choose a new or empty folder")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                dir=folder.parent, prefix=f".{folder.name}-"
            ) as unfinished:
                place = Path(unfinished, "tree")
                files = {
                    place / entry.path.removeprefix(f"{base}/" if base else ""): entry
                    for entry in wanted
                }
                with self._dropped_explained(wanted):
                    fetch_files(self._store, files, on_progress)
                place.replace(folder)
        except OSError as error:
            raise ArtifactError(f"cannot write to {folder}: {error.strerror}") from error

    def is_complete(self, subtree: str = "") -> bool:
        """Return whether the store has all content of the tree, or of a subtree; it is not read.

        It is False after garbage collection has deleted a folder of it, such as the training state
        of an old epoch.
        """
        wanted = [
            blob
            for entry in self.manifest.files
            if _is_within(entry.path, subtree)
            for blob in entry.blobs
        ]
        return bool(wanted) and all(
            in_parallel(lambda blob: has_blob(self._store, blob), wanted, SMALL_AT_ONCE)
        )

    def local_file(self, path: str) -> Path:
        """Return the path of one file of the tree, verified, where `fetch` places it."""
        self._entry(path)
        return self.fetch(path)

    def read_bytes(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a file's bytes, or a range of them, verified.

        Only whole files can be verified. A small one is read without filling the cache; one that is
        stored in chunks is fetched into it.
        """
        entry = self._entry(path)
        if start < 0 or (length is not None and length < 0):
            raise ArtifactError(
                f"cannot read {length} bytes of {path!r} from {start}: both must be 0 or more"
            )
        end = entry.size_bytes if length is None else min(entry.size_bytes, start + length)
        local = (
            self.local_file(path)
            if entry.chunks
            else self._cache.find(self.manifest.tree_digest, entry)
        )
        if local:
            with local.open("rb") as file:
                file.seek(start)
                return file.read(max(0, end - start))
        with self._dropped_explained([entry]):
            return bytes(read_blob(self._store, path, entry.blobs[0])[start:end])

    def read_table(self, path: str) -> "pa.Table":
        """Return a Parquet or Arrow IPC file as a table, memory-mapped from the cache.

        Raises:
            ArtifactError: The file is neither, or its content is not what it says.
        """
        return open_table(self.local_file(path), f"{self.name}: {path!r}")

    @contextmanager
    def _dropped_explained(self, wanted: Sequence[FileEntry]) -> Iterator[None]:
        """Report content that garbage collection has deleted as such, not as damage."""
        try:
            yield
        except MissingBlobError as error:
            dropped = read_dropped(self._store, self.manifest.key)
            if dropped and (folder := dropped.folder_of(wanted)):
                raise ArtifactError(
                    f"artifact {self.name}: its {folder}/ was deleted by garbage collection on "
                    f"{dropped.dropped_at:%Y-%m-%d}; other folders can still be fetched, and "
                    "materializing it again restores this one"
                ) from error
            raise

    def _entry(self, path: str) -> FileEntry:
        for entry in self.manifest.files:
            if entry.path == path:
                return entry
        raise self._no_such_path(path)

    def _no_such_path(self, path: str) -> ArtifactError:
        paths = [entry.path for entry in self.manifest.files]
        return ArtifactError(f"artifact {self.name} has no {path!r}; it has {some_of(paths)}")


def _is_within(path: str, subtree: str) -> bool:
    return not subtree or path == subtree or path.startswith(f"{subtree}/")
