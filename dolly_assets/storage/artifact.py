"""Artifacts: immutable file trees that are published whole or not at all, and verified when read.

    blobs/sha256/<2>/<64>                       each distinct content once: a file, or a chunk of a
                                                big one
    manifests/<name>/<time>-<digest16>.json     one record per publication, written last, in one
                                                create-only put
    manifests/<name>/<time>-<digest16>.dropped  which of its folders garbage collection has
                                                deleted, if any (gc.py)
    pending/, locks/                            ranks that publish together (ranks.py), who is
                                                committing now (locks.py)

Nothing published is overwritten. A publication that dies leaves blobs that no record names; the
next one reuses them.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Required, Self, TypedDict, Unpack

from pydantic import JsonValue

from dolly_assets.core.errors import ArtifactError, some_of
from dolly_assets.core.text import one_line
from dolly_assets.storage.cache import Cache
from dolly_assets.storage.flow import Progress
from dolly_assets.storage.gc import Garbage, RetentionPolicy, collect_garbage
from dolly_assets.storage.locks import Lease, committing, deciding
from dolly_assets.storage.manifest import (
    CLOCKS_APART,
    DIGEST_IN_KEY,
    RECORDS,
    FileEntry,
    Manifest,
    check_path,
    is_record,
    name_in,
    record_time,
    records_prefix,
    sorted_entries,
    version_with,
)
from dolly_assets.storage.object_store import ObjectInfo, ObjectStore
from dolly_assets.storage.ranks import announce, collect, forget
from dolly_assets.storage.reading import Artifact
from dolly_assets.storage.records import Records
from dolly_assets.storage.s3 import DEFAULTS, S3Settings
from dolly_assets.storage.send import Sender, send_files, tree_files
from dolly_assets.storage.verification import Verification, verify

PUBLISH_ATTEMPTS = 3


class ArtifactFields(TypedDict, total=False):
    """What a manifest records of an artifact besides its files.

    Attributes:
        kind: The sort of artifact, for example "model_checkpoint".
        inputs: Input name -> digest of the artifact it was made from.
        attributes: Metrics and other properties, as JSON values.
        made_by: Run id, code version, host.
    """

    kind: Required[str]
    inputs: Mapping[str, str]
    attributes: Mapping[str, JsonValue]
    made_by: Mapping[str, str]


class _ContentGoneError(ArtifactError):
    """Content that was in the store at the upload is no longer there at the commit."""


def artifact_name(key_path: Sequence[str], *partition: str) -> str:
    """Return the name of an asset's artifact.

    `["demo", "model_checkpoint"], "alpaca|01"` and `[…], "alpaca", "01"` both give
    `demo/model_checkpoint/alpaca/01`. Dagster writes a multi-partition key as the keys of its
    dimensions, sorted by the dimensions' names and joined by "|": dataset comes before epoch.

    Raises:
        ArtifactError: A part is empty, `.` or `..`, or contains a slash.
    """
    parts = [*key_path, *(part for key in partition for part in key.split("|"))]
    for part in parts:
        if "/" in part:
            raise ArtifactError(
                f"asset key or partition key {part!r} contains a '/', which separates the parts of "
                "an artifact's name"
            )
    return _checked_name("/".join(parts))


class ArtifactStore:
    """Publishes and finds artifacts in one object store.

    Args:
        url: A local path, `file:///…`, `memory:///`, `s3://bucket/prefix`, `gs://…` or `az://…`.
        cache_dir: Where this machine keeps verified copies.
        cache_limit_bytes: When set, trees that no process uses are deleted from the cache, least
            recently used first, to stay below it.
        s3: Endpoint, region and profile of S3.

    Raises:
        ConfigurationError: The URL is wrong, or the bucket does not exist.
        ArtifactError: From all methods, when the store fails or something is missing or damaged.
    """

    def __init__(
        self,
        url: str,
        cache_dir: Path,
        *,
        cache_limit_bytes: int | None = None,
        s3: S3Settings = DEFAULTS,
    ) -> None:
        self._store = ObjectStore(url, s3)
        self._sender = Sender(self._store)
        self._cache = Cache(cache_dir, self._store, cache_limit_bytes)
        self._memory = Records(self._store, cache_dir)
        self._listed: Mapping[str, Sequence[ObjectInfo]] | None = None  # by name, in a snapshot
        self.url = self._store.url

    def publish(
        self,
        name: str,
        tree: Path | Mapping[str, Path],
        *,
        descriptions: Collection[str] = (),
        on_progress: Progress | None = None,
        **fields: Unpack[ArtifactFields],
    ) -> Artifact:
        """Upload a folder, or files by their path in the artifact, and commit them under a name.

        Args:
            name: Segments separated by "/".
            tree: A folder, or path in the artifact -> local file.
            descriptions: Names of files at the top of the tree, as far as they exist, that only
                describe the others: pictures, previews, reports. The digest leaves them out.
            on_progress: Called with (bytes done, bytes in total), by one thread at a time.
            fields: What the manifest records of it.
        """
        _checked_name(name)
        attempts, sent_before = 0, self._sender.sent_bytes
        while True:
            files = self.upload(tree, descriptions=descriptions, on_progress=on_progress)
            try:
                return self._commit(name, files, self._sender.sent_bytes - sent_before, fields)
            except _ContentGoneError:  # garbage collection was faster: send it again
                attempts += 1
                if attempts == PUBLISH_ATTEMPTS:
                    raise

    def upload(
        self,
        tree: Path | Mapping[str, Path],
        *,
        descriptions: Collection[str] = (),
        on_progress: Progress | None = None,
    ) -> tuple[FileEntry, ...]:
        """Store content that is not visible yet: step one of publishing, by any process.

        Args:
            tree: The process's own files, as in `publish`.
            descriptions: As in `publish`.
            on_progress: As in `publish`.
        """
        return tuple(
            entry.model_copy(update={"is_description": entry.path in descriptions})
            for entry in send_files(self._sender, tree_files(tree), on_progress)
        )

    def upload_rank(
        self,
        tree: Path | Mapping[str, Path],
        *,
        attempt: str,
        rank: int,
        descriptions: Collection[str] = (),
        on_progress: Progress | None = None,
    ) -> None:
        """Upload the files of one of several ranks, on any node; one rank calls `commit_ranks`.

        Args:
            tree: The rank's own files; paths are unique over all ranks.
            attempt: The same on all ranks, and never used for another publication.
            rank: 0 to ranks - 1.
            descriptions: As in `publish`.
            on_progress: As in `publish`.
        """
        sent_before = self._sender.sent_bytes
        files = self.upload(tree, descriptions=descriptions, on_progress=on_progress)
        announce(self._store, attempt, rank, files, self._sender.sent_bytes - sent_before)

    def publish_rank(
        self,
        name: str,
        tree: Path | Mapping[str, Path],
        *,
        attempt: str,
        rank: int,
        ranks: int,
        timeout_seconds: float,
        descriptions: Collection[str] = (),
        **fields: Unpack[ArtifactFields],
    ) -> Artifact | None:
        """Publish from several ranks in one call: each rank calls it with its own files.

        Rank 0 returns the artifact, once all others have uploaded; the others return None when
        their own files are stored, published or not. If a rank dies, nothing is published.

        Raises:
            ArtifactError: A rank has not uploaded in time, or the store fails; nothing is
                published.
        """
        self.upload_rank(tree, attempt=attempt, rank=rank, descriptions=descriptions)
        if rank:
            return None
        return self.commit_ranks(
            name,
            attempt=attempt,
            ranks=ranks,
            timeout_seconds=timeout_seconds,
            **fields,
        )

    def commit_ranks(
        self,
        name: str,
        *,
        attempt: str,
        ranks: int,
        timeout_seconds: float,
        **fields: Unpack[ArtifactFields],
    ) -> Artifact:
        """Wait until all ranks have uploaded, and commit their files as one artifact.

        Raises:
            ArtifactError: A rank has not uploaded in time; nothing is published.
        """
        _checked_name(name)
        announced = collect(self._store, attempt, ranks, timeout_seconds)
        files = [entry for rank in announced for entry in rank.files]
        artifact = self._commit(name, files, sum(rank.sent_bytes for rank in announced), fields)
        forget(self._store, attempt)
        return artifact

    def commit(
        self,
        name: str,
        files: Sequence[FileEntry],
        **fields: Unpack[ArtifactFields],
    ) -> Artifact:
        """Make an artifact of uploaded files, in one put: step two, for one process.

        Raises:
            ArtifactError: A file's content is not in the store; a name, path or value is not
                allowed.
        """
        return self._commit(name, files, None, fields)

    def _commit(
        self, name: str, files: Sequence[FileEntry], sent_bytes: int | None, fields: ArtifactFields
    ) -> Artifact:
        try:
            manifest = Manifest(
                schema_version=version_with(files),
                name=_checked_name(name),
                files=sorted_entries(files),
                sent_bytes=sent_bytes,
                created_at=datetime.now(UTC),
                kind=fields["kind"],
                inputs=dict(fields.get("inputs", {})),
                attributes=dict(fields.get("attributes", {})),
                made_by=dict(fields.get("made_by", {})),
            )
        except ValueError as error:
            raise ArtifactError(f"cannot commit {name}: {one_line(error)}") from error
        with committing(self._store) as lease:
            if absent := self._absent(files):
                raise _ContentGoneError(
                    f"cannot commit {name}: not in {self.url}: {some_of(absent)}; upload them first"
                )
            self._store.make_durable([blob.key for entry in files for blob in entry.blobs])
            lease.check()
            if (ahead := manifest.created_at - lease.now) > CLOCKS_APART:
                raise ArtifactError(
                    f"cannot commit {name}: the clock of this machine is {ahead} ahead of that of "
                    f"{self.url}, so this would stay the newest for as long; set the clock"
                )
            return self._artifact(self._written(manifest))

    def _written(self, manifest: Manifest) -> Manifest:
        """Write the record as the newest of its name."""
        while True:
            # Never earlier than the newest record, so that a publisher whose clock is slow does not
            # hide what it publishes.
            if records := self._list(manifest.name):
                least = record_time(records[-1].key) + timedelta(microseconds=1)
                manifest = manifest.model_copy(
                    update={"created_at": max(manifest.created_at, least)}
                )
            if self._write_record(manifest):
                return manifest

    def _absent(self, files: Sequence[FileEntry]) -> list[str]:
        """Return the paths whose content the store lacks."""
        lacking = self._sender.lacking(blob for entry in files for blob in entry.blobs)
        return [
            entry.path for entry in files if any(blob.sha256 in lacking for blob in entry.blobs)
        ]

    def _write_record(self, manifest: Manifest) -> bool:
        """Write a record; False if another process took its key, in the same microsecond."""
        record = manifest.to_json()
        # A put whose answer was lost is repeated and then finds its own record.
        written = (
            self._store.create(manifest.key, record) or self._store.read_all(manifest.key) == record
        )
        self._store.make_durable([manifest.key])
        return written

    def latest(self, name: str) -> Artifact | None:
        """Return the newest publication of a name, if there is one."""
        records = self._records(_checked_name(name))
        return self._load(records[-1]) if records else None

    def history(self, name: str) -> list[Artifact]:
        """Return all publications of a name, newest first."""
        records = self._records(_checked_name(name))
        return [self._artifact(manifest) for manifest in self._memory.read(records[::-1])]

    def get(self, name: str, digest: str) -> Artifact:
        """Return the newest publication of a name with a digest.

        Raises:
            ArtifactError: There is none; the message lists those that exist.
        """
        records = self._records(_checked_name(name))[::-1]
        for record in records:
            if _digest_in(record.key) == digest[:DIGEST_IN_KEY]:
                artifact = self._load(record)
                if artifact.digest == digest:
                    return artifact
        known = some_of(
            [f"{_digest_in(key)}… of {record_time(key):%Y-%m-%d %H:%M:%S}" for key, *_ in records]
        )
        raise ArtifactError(f"{self.url} has no {name} with digest {digest}; it has {known}")

    def names(self, prefix: str = "") -> list[str]:
        """Return the sorted names of all artifacts, or of those at or below a prefix.

        Args:
            prefix: Whole segments, such as `demo/model_checkpoint`.
        """
        return sorted(self._by_name(prefix))

    def newest(self, prefix: str = "") -> Iterator[Artifact]:
        """Yield the newest publication of each name, sorted by name.

        Args:
            prefix: As in `names`.
        """
        found = self._by_name(prefix)
        if not prefix:
            self._memory.forget_unless_few(sum(map(len, found.values())))
        return map(self._artifact, self._memory.read([found[name][-1] for name in sorted(found)]))

    def every(self) -> Iterator[Artifact]:
        """Yield all publications of all names, sorted by name, the newest of each first."""
        found = self._by_name("")
        records = [record for name in sorted(found) for record in reversed(found[name])]
        return map(self._artifact, self._memory.read(records))

    def snapshot(self) -> Self:
        """Return the store as it is now, to look up many names in: they are listed once."""
        taken = copy(self)
        taken._listed = self._by_name("")
        return taken

    def verify(self, prefix: str = "") -> Iterator[Verification]:
        """Read every published file back and compare it with its manifest; each content once.

        Args:
            prefix: As in `names`.

        Yields:
            One result per publication, as soon as it is checked.
        """
        return verify(self._store, [record.key for record in self._all_records(prefix)])

    def deciding(self) -> AbstractContextManager[Lease]:
        """Keep out of a block all others that call this, so that what it read stays the newest.

        Call `check` of the lease before what was decided is committed.

        Raises:
            ArtifactError: Others did not leave it in time.
        """
        return deciding(self._store)

    def collect_garbage(
        self,
        policy: RetentionPolicy,
        *,
        protected: Set[str],
        is_known_run: Callable[[str], bool] = lambda run_id: True,
        delete: bool = False,
    ) -> Garbage:
        """Find, and with `delete` remove, what a policy does not keep; see gc.py.

        Args:
            policy: What to keep.
            protected: Digests of artifacts whose records are kept regardless of the policy.
            is_known_run: Whether `protected` covers the run of this id (`made_by["run_id"]`). If
                the store holds records of other runs, no record is removed.
            delete: Remove what was found; otherwise nothing is changed.
        """
        return collect_garbage(
            self._store,
            self._memory,
            policy,
            protected=protected,
            is_known_run=is_known_run,
            delete=delete,
        )

    def _records(self, name: str) -> Sequence[ObjectInfo]:
        return self._list(name) if self._listed is None else self._listed.get(name, ())

    def _list(self, name: str) -> list[ObjectInfo]:
        found = self._store.objects(records_prefix(name), recursive=False)
        return [item for item in found if is_record(item.key)]

    def _all_records(self, prefix: str) -> list[ObjectInfo]:
        folder = records_prefix(_checked_name(prefix)) if prefix else RECORDS
        return [item for item in self._store.objects(folder) if is_record(item.key)]

    def _by_name(self, prefix: str) -> dict[str, list[ObjectInfo]]:
        found: dict[str, list[ObjectInfo]] = defaultdict(list)
        for record in self._all_records(prefix):
            found[name_in(record.key)].append(record)
        return found

    def _load(self, record: ObjectInfo) -> Artifact:
        for manifest in self._memory.read([record]):
            return self._artifact(manifest)
        raise ArtifactError(f"{self._store.url_of(record.key)} was deleted meanwhile: try again")

    def _artifact(self, manifest: Manifest) -> Artifact:
        return Artifact(manifest, self._store, self._cache)


def _checked_name(name: str) -> str:
    try:
        return check_path(name)
    except ValueError as error:
        raise ArtifactError(f"not an artifact name: {error}") from error


def _digest_in(key: str) -> str:
    return key.removesuffix(".json").rpartition("-")[2]
