"""A published artifact as its reader has it: a handle; files come when they are asked for, verified."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.core.errors import ArtifactError, some_of
from dolly_assets.storage.cache import Cache
from dolly_assets.storage.gc import read_dropped
from dolly_assets.storage.manifest import FileEntry, Manifest
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.transfer import (
    SMALL_AT_ONCE,
    MissingBlobError,
    Progress,
    fetch_files,
    has_blob,
    in_parallel,
    read_blob,
)

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Artifact:
    """A published file tree.

    Holding it costs nothing: files come when they are asked for, verified.

    Attributes:
        manifest: what was published.
    """

    manifest: Manifest
    _store: ObjectStore = field(repr=False)
    _cache: Cache = field(repr=False)

    @property
    def name(self) -> str:
        """For example `demo/model_checkpoint/demo/01`."""
        return self.manifest.name

    @property
    def digest(self) -> str:
        """SHA-256 of the file list, in hex: equal for equal content."""
        return self.manifest.digest

    @property
    def uri(self) -> str:
        """The URL of the manifest."""
        return self._store.url_of(self.manifest.key)

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return self.manifest.size_bytes

    def holds(self, path: str) -> bool:
        """Whether it has a file at this path."""
        return any(entry.path == path for entry in self.manifest.files)

    def fetch(self, subtree: str = "") -> Path:
        """A local folder with the tree, or with what is below `subtree`; every file is verified.

        The files are read-only and stay while this process lives. Copy what is to be changed or
        kept.

        Raises:
            DamagedFileError: a file is damaged in the store.
            ArtifactError: there is no such subtree; the store or the disk fails.
        """
        wanted = [entry for entry in self.manifest.files if _is_within(entry.path, subtree)]
        if not wanted:
            raise self._no_such_path(subtree)
        with self._dropped_explained(wanted):
            return self._cache.tree(self.digest, wanted) / subtree

    def copy_to(
        self, folder: Path, subtree: str = "", *, on_progress: Progress | None = None
    ) -> None:
        """Writes the tree, or what is below `subtree`, into a new or empty folder, verified, past the cache.

        Raises:
            DamagedFileError: a file is damaged in the store; the folder is then as it was.
            ArtifactError: there is no such subtree; the folder is not empty; the store or the disk
                fails.
        """
        wanted = [entry for entry in self.manifest.files if _is_within(entry.path, subtree)]
        if not wanted:
            raise self._no_such_path(subtree)
        # A single file keeps its name, a folder's files their paths in it.
        base = subtree if subtree != wanted[0].path else subtree.rpartition("/")[0]
        try:
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ArtifactError(f"{folder} is there already: name a new or empty folder")
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
        """Whether the store has all content of the tree, or of what is below `subtree`; it is not read.

        False after garbage collection has dropped a folder of it, such as the training state of an
        old epoch.
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
        """One file of the tree, verified, as `fetch` would place it."""
        self._entry(path)
        return self.fetch(path)

    def read_bytes(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """A file's bytes, or those in a range, verified, without filling the cache.

        Of a file that is not in the cache, the chunks that the range touches are read
        (`chunk_bytes` each).
        """
        entry = self._entry(path)
        if start < 0 or (length is not None and length < 0):
            raise ArtifactError(
                f"cannot read {path!r} from {start}, {length} bytes: both must be 0 or more"
            )
        end = entry.size_bytes if length is None else min(entry.size_bytes, start + length)
        if local := self._cache.find(self.digest, entry):
            with local.open("rb") as file:
                file.seek(start)
                return file.read(max(0, end - start))
        touched = [
            blob
            for blob in entry.blobs
            if blob.start < end and start < blob.start + blob.size_bytes
        ]
        with self._dropped_explained([entry]):
            pieces = in_parallel(lambda blob: read_blob(self._store, path, blob), touched)
        skipped = start - touched[0].start if touched else 0
        return b"".join(pieces)[skipped : skipped + max(0, end - start)]

    def read_table(self, path: str) -> "pa.Table":
        """A Parquet or Arrow IPC file as a table, memory-mapped from the cache.

        Raises:
            ArtifactError: the file is neither.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        local = self.local_file(path)
        with local.open("rb") as file:
            magic = file.read(6)
        try:
            if magic.startswith(b"PAR1"):
                return pq.ParquetFile(local, memory_map=True).read()
            source = pa.memory_map(str(local))
            return (pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream)(
                source
            ).read_all()
        except pa.ArrowInvalid as error:
            raise ArtifactError(
                f"{self.name}: {path!r} is neither Parquet nor Arrow IPC: {str(error).splitlines()[0]}"
            ) from error

    @contextmanager
    def _dropped_explained(self, wanted: Sequence[FileEntry]) -> Iterator[None]:
        """What garbage collection has dropped is not damage."""
        try:
            yield
        except MissingBlobError as error:
            dropped = read_dropped(self._store, self.manifest.key)
            if dropped and (folder := dropped.folder_of(wanted)):
                raise ArtifactError(
                    f"artifact {self.name}: its {folder}/ was dropped by garbage collection on "
                    f"{dropped.dropped_at:%Y-%m-%d}; the rest can be fetched by folder; to have it again, "
                    "materialize it anew"
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
