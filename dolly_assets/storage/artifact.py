"""Artifacts: immutable file trees that are published whole or not at all, and verified when read.

    blobs/sha256/<2>/<64>                       each distinct content once: a file, or a chunk of a big one
    manifests/<name>/<time>-<digest16>.json     one record per publication, written last, in one create-only put
    manifests/<name>/<time>-<digest16>.dropped  which of its folders garbage collection has let go, if any (gc.py)
    pending/, locks/                            ranks that publish together (ranks.py), who commits now (locks.py)

Nothing published is overwritten. A publication that dies leaves blobs that no record names; the next one
reuses them.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from dolly_assets.errors import ArtifactError
from dolly_assets.storage.cache import Cache
from dolly_assets.storage.gc import Garbage, RetentionPolicy, collect_garbage, read_dropped
from dolly_assets.storage.locks import committing
from dolly_assets.storage.manifest import (
    DIGEST_IN_KEY,
    RECORDS,
    Blob,
    FileEntry,
    Manifest,
    check_path,
    is_record,
    name_in,
    one_line,
    record_time,
    records_prefix,
    sorted_entries,
)
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.ranks import announce, collect, forget
from dolly_assets.storage.s3 import DEFAULTS, S3Settings
from dolly_assets.storage.transfer import (
    CHUNKS_AT_ONCE,
    SMALL_READS_AT_ONCE,
    DamagedFileError,
    MissingBlobError,
    Progress,
    Sender,
    fetch_files,
    has_blob,
    in_parallel,
    read_blob,
    send_files,
    tree_files,
)

if TYPE_CHECKING:
    import pyarrow as pa

NO_ENTRIES: Mapping = {}
PUBLISH_TRIES = 3


class _ContentGoneError(ArtifactError):
    """Content that was in the store at the upload is not any more at the commit."""


def artifact_name(key_path: Sequence[str], *partition: str) -> str:
    """The name of an asset's artifact: `["demo", "model_checkpoint"], "alpaca|01"` and `[…], "alpaca",
    "01"` both give `demo/model_checkpoint/alpaca/01`.

    Dagster writes a multi-partition key as the keys of its dimensions, sorted by the dimensions' names,
    joined by "|": dataset comes before epoch.

    Raises:
        ArtifactError: a part is empty, `.` or `..`, or holds a slash.
    """
    parts = [*key_path, *(part for key in partition for part in key.split("|"))]
    for part in parts:
        if "/" in part:
            raise ArtifactError(f"asset key or partition key {part!r} holds a '/', which separates an artifact's names")
    return _checked_name("/".join(parts))


@dataclass(frozen=True, eq=False)
class Artifact:
    """A published file tree. Holding it costs nothing: files come when they are asked for, verified.

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

    def fetch(self, subtree: str = "") -> Path:
        """A local folder with the tree, or with what is below `subtree`; every file is verified.

        The files are read-only and stay while this process lives. Copy what is to be changed or kept.

        Raises:
            DamagedFileError: a file is damaged in the store.
            ArtifactError: there is no such subtree; the store or the disk fails.
        """
        wanted = [entry for entry in self.manifest.files if _is_within(entry.path, subtree)]
        if not wanted:
            raise self._no_such_path(subtree)
        with self._dropped_explained(wanted):
            return self._cache.tree(self.digest, wanted) / subtree

    def copy_to(self, folder: Path, subtree: str = "", *, on_progress: Progress | None = None) -> None:
        """Writes the tree, or what is below `subtree`, into a new or empty folder, verified, past the cache.

        Raises:
            DamagedFileError: a file is damaged in the store; the folder is then as it was.
            ArtifactError: there is no such subtree; the folder is not empty; the store or the disk fails.
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
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as unfinished:
                place = Path(unfinished, "tree")
                files = {place / entry.path.removeprefix(f"{base}/" if base else ""): entry for entry in wanted}
                with self._dropped_explained(wanted):
                    fetch_files(self._store, files, on_progress)
                place.replace(folder)
        except OSError as error:
            raise ArtifactError(f"cannot write to {folder}: {error.strerror}") from error

    def is_complete(self, subtree: str = "") -> bool:
        """Whether the store has all content of the tree, or of what is below `subtree`; it is not read.

        False after garbage collection has dropped a folder of it, such as the training state of an old epoch.
        """
        wanted = [blob for entry in self.manifest.files if _is_within(entry.path, subtree) for blob in entry.blobs]
        return bool(wanted) and all(in_parallel(lambda blob: has_blob(self._store, blob), wanted, SMALL_READS_AT_ONCE))

    def local_file(self, path: str) -> Path:
        """One file of the tree, verified, as `fetch` would place it."""
        self._entry(path)
        return self.fetch(path)

    def read_bytes(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """A file's bytes, or those in a range, verified, without filling the cache.

        Of a file that is not in the cache, the chunks that the range touches are read (`chunk_bytes` each).
        """
        entry = self._entry(path)
        if start < 0 or (length is not None and length < 0):
            raise ArtifactError(f"cannot read {path!r} from {start}, {length} bytes: both must be 0 or more")
        end = entry.size_bytes if length is None else min(entry.size_bytes, start + length)
        if local := self._cache.find(self.digest, entry):
            with local.open("rb") as file:
                file.seek(start)
                return file.read(max(0, end - start))
        touched = [blob for blob in entry.blobs if blob.start < end and start < blob.start + blob.size_bytes]
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
            return (pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream)(source).read_all()
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
        return ArtifactError(f"artifact {self.name} has no {path!r}; it has {_some_of(paths)}")


@dataclass(frozen=True)
class Damage:
    """One thing that is not as published: a file of an artifact, or a manifest (then the path is its key)."""

    path: str
    reason: str


@dataclass(frozen=True)
class Verification:
    """What checking one publication found. A damaged manifest has no digest."""

    name: str
    digest: str | None
    damaged: tuple[Damage, ...]


class ArtifactStore:
    """Publishes and finds artifacts in one object store.

    Args:
        url: a local path, `file:///…`, `memory:///`, `s3://bucket/prefix`, `gs://…` or `az://…`.
        cache_dir: where this machine keeps verified copies.
        cache_limit_bytes: when set, trees that no process uses are dropped, the longest unused first, to
            stay below it.
        s3: how S3 is reached.

    Raises:
        ConfigurationError: the URL is wrong, or the bucket does not exist.
        ArtifactError: from all methods, when the store fails or something is missing or damaged.
    """

    def __init__(
        self, url: str, cache_dir: Path, *, cache_limit_bytes: int | None = None, s3: S3Settings = DEFAULTS
    ) -> None:
        self._store = ObjectStore(url, s3)
        self._sender = Sender(self._store)
        self._cache = Cache(cache_dir, self._store, cache_limit_bytes)
        self.url = self._store.url

    def publish(
        self,
        name: str,
        tree: Path | Mapping[str, Path],
        *,
        kind: str,
        inputs: Mapping[str, str] = NO_ENTRIES,
        attributes: Mapping[str, JsonValue] = NO_ENTRIES,
        made_by: Mapping[str, str] = NO_ENTRIES,
        on_progress: Progress | None = None,
    ) -> Artifact:
        """Uploads a folder, or files by their path in the artifact, and commits them under a name.

        Args:
            name: segments separated by "/".
            tree: a folder, or path in the artifact -> local file.
            kind: what sort of artifact, for example "model_checkpoint".
            inputs: input name -> digest of the artifact it was made from.
            attributes: metrics and facts, as JSON values.
            made_by: run id, code version, host.
            on_progress: called with (bytes done, bytes in total), by one thread at a time.
        """
        _checked_name(name)
        tries = 0
        while True:
            files = self.upload(tree, on_progress=on_progress)
            try:
                return self.commit(name, files, kind=kind, inputs=inputs, attributes=attributes, made_by=made_by)
            except _ContentGoneError:  # garbage collection was faster: send it again
                tries += 1
                if tries == PUBLISH_TRIES:
                    raise

    def upload(self, tree: Path | Mapping[str, Path], *, on_progress: Progress | None = None) -> tuple[FileEntry, ...]:
        """Step one of publishing, by any process with its own files: content is stored, not yet visible."""
        return send_files(self._sender, tree_files(tree), on_progress)

    def upload_rank(
        self, tree: Path | Mapping[str, Path], *, attempt: str, rank: int, on_progress: Progress | None = None
    ) -> None:
        """Step one on each of several ranks, on any node; rank 0 or another then calls `commit_ranks`.

        Args:
            tree: the rank's own files; paths are unique over all ranks.
            attempt: the same on all ranks, and never used for another publication.
            rank: 0 to ranks - 1.
            on_progress: as in `publish`.
        """
        announce(self._store, attempt, rank, self.upload(tree, on_progress=on_progress))

    def publish_rank(
        self,
        name: str,
        tree: Path | Mapping[str, Path],
        *,
        attempt: str,
        rank: int,
        ranks: int,
        timeout_seconds: float,
        kind: str,
        inputs: Mapping[str, str] = NO_ENTRIES,
        attributes: Mapping[str, JsonValue] = NO_ENTRIES,
        made_by: Mapping[str, str] = NO_ENTRIES,
    ) -> Artifact | None:
        """What each rank calls, with its own files: both steps of publishing from several ranks.

        Rank 0 returns the artifact, once all others have uploaded; the others return None when their own files are
        stored, published or not. If a rank dies, nothing is published.

        Raises:
            ArtifactError: a rank has not uploaded in time, or the store fails; nothing is published.
        """
        self.upload_rank(tree, attempt=attempt, rank=rank)
        if rank:
            return None
        return self.commit_ranks(
            name,
            attempt=attempt,
            ranks=ranks,
            timeout_seconds=timeout_seconds,
            kind=kind,
            inputs=inputs,
            attributes=attributes,
            made_by=made_by,
        )

    def commit_ranks(
        self,
        name: str,
        *,
        attempt: str,
        ranks: int,
        timeout_seconds: float,
        kind: str,
        inputs: Mapping[str, str] = NO_ENTRIES,
        attributes: Mapping[str, JsonValue] = NO_ENTRIES,
        made_by: Mapping[str, str] = NO_ENTRIES,
    ) -> Artifact:
        """Step two for several ranks: waits until all have uploaded, and commits their files as one artifact.

        Raises:
            ArtifactError: a rank has not uploaded in time; nothing is published.
        """
        _checked_name(name)
        files = collect(self._store, attempt, ranks, timeout_seconds)
        artifact = self.commit(name, files, kind=kind, inputs=inputs, attributes=attributes, made_by=made_by)
        forget(self._store, attempt)
        return artifact

    def commit(
        self,
        name: str,
        files: Sequence[FileEntry],
        *,
        kind: str,
        inputs: Mapping[str, str] = NO_ENTRIES,
        attributes: Mapping[str, JsonValue] = NO_ENTRIES,
        made_by: Mapping[str, str] = NO_ENTRIES,
    ) -> Artifact:
        """Step two, for one process: the files that all have uploaded become an artifact, in one put.

        Raises:
            ArtifactError: a file's content is not in the store; a name, path or value is not allowed.
        """
        try:
            manifest = Manifest(
                name=_checked_name(name),
                kind=kind,
                files=sorted_entries(files),
                inputs=dict(inputs),
                attributes=dict(attributes),
                made_by=dict(made_by),
                created_at=datetime.now(UTC),
            )
        except ValueError as error:
            raise ArtifactError(f"cannot commit {name}: {one_line(error)}") from error
        with committing(self._store) as lease:
            if absent := self._absent(files):
                raise _ContentGoneError(
                    f"cannot commit {name}: not in {self.url}: {_some_of(absent)}; upload them first"
                )
            self._store.make_durable([blob.key for entry in files for blob in entry.blobs])
            lease.check()
            return self._artifact(self._written(manifest))

    def _written(self, manifest: Manifest) -> Manifest:
        """Puts the record as the newest of its name."""
        while True:
            # Never before the newest record, so that a clock that is behind cannot hide what it publishes.
            if records := self._records(manifest.name):
                least = record_time(records[-1]) + timedelta(microseconds=1)
                manifest = manifest.model_copy(update={"created_at": max(manifest.created_at, least)})
            if self._write_record(manifest):
                return manifest

    def _absent(self, files: Sequence[FileEntry]) -> list[str]:
        """The paths whose content the store lacks."""
        lacking = self._sender.lacking(blob for entry in files for blob in entry.blobs)
        return [entry.path for entry in files if any(blob.sha256 in lacking for blob in entry.blobs)]

    def _write_record(self, manifest: Manifest) -> bool:
        """False when another process took the same key, in the same microsecond with the same content."""
        record = manifest.to_json()
        # A put whose answer was lost is sent again and then finds its own record.
        written = self._store.create(manifest.key, record) or self._store.read_all(manifest.key) == record
        self._store.make_durable([manifest.key])
        return written

    def latest(self, name: str) -> Artifact | None:
        """The newest publication of a name, if there is one."""
        records = self._records(_checked_name(name))
        return self._load(records[-1]) if records else None

    def history(self, name: str) -> list[Artifact]:
        """All publications of a name, newest first."""
        records = in_parallel(self._load_if_there, reversed(self._records(_checked_name(name))))
        return [artifact for artifact in records if artifact]

    def get(self, name: str, digest: str) -> Artifact:
        """The newest publication of a name with a digest.

        Raises:
            ArtifactError: there is none; it says which there are.
        """
        records = self._records(_checked_name(name))
        for key in reversed(records):
            if _digest_in(key) == digest[:DIGEST_IN_KEY]:
                artifact = self._load(key)
                if artifact.digest == digest:
                    return artifact
        known = _some_of([f"{_digest_in(key)}… of {record_time(key):%Y-%m-%d %H:%M:%S}" for key in reversed(records)])
        raise ArtifactError(f"{self.url} has no {name} with digest {digest}; it has {known}")

    def names(self, prefix: str = "") -> list[str]:
        """The sorted names of all artifacts, or of those equal to or below a prefix of whole segments."""
        return sorted({name_in(key) for key in self._all_records(prefix)})

    def verify(self, prefix: str = "") -> Iterator[Verification]:
        """Reads every published file back and compares it with its manifest; each content once.

        Yields:
            One finding per publication, as soon as it is checked.
        """
        checked: dict[str, DamagedFileError | None] = {}  # sha256 -> what is wrong with it
        for key in self._all_records(prefix):
            try:
                manifest = self._load(key).manifest
            except ArtifactError as error:
                yield Verification(name_in(key), None, (Damage(key, str(error)),))
                continue
            blobs = {blob.sha256: (file.path, blob) for file in manifest.files for blob in file.blobs}
            unseen = [item for sha256, item in blobs.items() if sha256 not in checked]
            found = in_parallel(self._damage_of, unseen, CHUNKS_AT_ONCE)
            checked.update(zip((blob.sha256 for _, blob in unseen), found, strict=True))
            yield Verification(manifest.name, manifest.digest, tuple(self._damaged(manifest, checked)))

    def _damage_of(self, item: tuple[str, Blob]) -> DamagedFileError | None:
        try:
            read_blob(self._store, *item)
        except DamagedFileError as error:
            return error
        return None

    def _damaged(self, manifest: Manifest, checked: Mapping[str, DamagedFileError | None]) -> Iterator[Damage]:
        found = [(file, error) for file in manifest.files for blob in file.blobs if (error := checked[blob.sha256])]
        dropped = read_dropped(self._store, manifest.key) if found else None
        for path, (file, error) in {file.path: (file, error) for file, error in reversed(found)}.items():
            if not (dropped and isinstance(error, MissingBlobError) and dropped.folder_of([file])):
                yield Damage(path, str(error))

    def collect_garbage(
        self,
        policy: RetentionPolicy,
        *,
        protected: Set[str],
        is_known_run: Callable[[str], bool] = lambda run_id: True,
        delete: bool = False,
    ) -> Garbage:
        """Finds, and with `delete` removes, what a policy does not keep; see gc.py.

        Args:
            policy: what to keep.
            protected: digests of artifacts whose records stay, whatever the policy says.
            is_known_run: whether `protected` speaks for the run of this id (`made_by["run_id"]`). If the store holds
                records of others, no record is removed.
            delete: remove what was found; otherwise nothing is changed.
        """
        return collect_garbage(self._store, policy, protected=protected, is_known_run=is_known_run, delete=delete)

    def _records(self, name: str) -> list[str]:
        return [key for key in self._store.keys(records_prefix(name), recursive=False) if is_record(key)]

    def _all_records(self, prefix: str) -> list[str]:
        folder = records_prefix(_checked_name(prefix)) if prefix else RECORDS
        return [key for key in self._store.keys(folder) if is_record(key)]

    def _load(self, key: str) -> Artifact:
        return self._artifact(Manifest.from_json(self._store.read_all(key), key))

    def _load_if_there(self, key: str) -> Artifact | None:
        """None when garbage collection has removed the record since it was listed."""
        try:
            return self._load(key)
        except ArtifactError:
            if self._store.size_bytes(key) is None:
                return None
            raise

    def _artifact(self, manifest: Manifest) -> Artifact:
        return Artifact(manifest, self._store, self._cache)


def _checked_name(name: str) -> str:
    try:
        return check_path(name)
    except ValueError as error:
        raise ArtifactError(f"not an artifact's name: {error}") from error


def _is_within(path: str, subtree: str) -> bool:
    return not subtree or path == subtree or path.startswith(f"{subtree}/")


def _digest_in(key: str) -> str:
    return key.removesuffix(".json").rpartition("-")[2]


def _some_of(items: list[str], limit: int = 5) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more if items else "none"
