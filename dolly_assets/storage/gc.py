"""Garbage collection: deletes what a retention policy expires, and content that no record names.

It knows names and records, not Dagster. A record stays true, so it is never rewritten. Either it is
removed as a whole, by `publications`; or it stays, and a note beside it lists the folders that were
deleted, by `folders`: the artifact keeps its digest, and references to it remain valid.

Content is removed blob by blob under the sweep lock (locks.py), a slice of the store at a time, so
that a commit waits a moment at most. Each slice is listed, and new records are read, after the lock
is held: what was committed meanwhile is kept. A publication that relied on content which was then
removed notices at its commit, and sends it again. The grace period spares running uploads that
effort; safety does not depend on it.

The caller passes the digests that materializations point at, and it can only ask its own Dagster
instance. So if the store has records by runs of another instance, no record is removed, unless the
caller states that no other instance relies on them.
"""

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import AwareDatetime, Field, NonNegativeInt, PositiveInt

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ArtifactError, some_of
from dolly_assets.core.text import one_line
from dolly_assets.core.yaml_text import read_start, read_yaml
from dolly_assets.storage import ranks
from dolly_assets.storage.conventions import LIVE, MESSAGES
from dolly_assets.storage.flow import SMALL_AT_ONCE, in_parallel
from dolly_assets.storage.locks import mark_sweep, sweeping
from dolly_assets.storage.manifest import (
    BLOBS,
    RECORDS,
    SCHEMA_VERSION,
    FileEntry,
    Manifest,
    RelativePath,
    is_record,
    name_in,
    seal,
    unseal,
)
from dolly_assets.storage.object_store import ObjectInfo, ObjectStore
from dolly_assets.storage.records import Records

# Folder of what is used only while a worker runs -> how long it is kept after the last write. By
# then, announced files were committed or never will be, the next run has made a profile of a live
# report, and no run waits for a message.
TRANSIENT = {ranks.FOLDER: timedelta(days=1), LIVE: timedelta(days=7), MESSAGES: timedelta(days=30)}


class Rule(Config):
    """What is kept of the artifacts whose names match."""

    artifacts: str = Field(
        description="Pattern of names, such as */model_checkpoint/*; an * also matches slashes."
    )
    publications: PositiveInt | None = Field(
        default=None, description="Number of newest publications to keep of each name; else all."
    )
    folders: dict[RelativePath, NonNegativeInt] = Field(
        default={},
        description="Folder in the artifact -> number of newest publications that keep it, counted "
        "over the artifacts that share all but the last part of their name, such as the epochs of "
        "one training.",
    )


class RetentionPolicy(Config):
    """What garbage collection keeps.

    The first rule that matches a name applies; names without a rule keep all publications.
    """

    grace_hours: float = Field(
        default=24, ge=0, description="Younger content is kept: an upload may be running."
    )
    rules: tuple[Rule, ...] = Field(default=())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a policy from a YAML file.

        Raises:
            ConfigurationError: It cannot be read, or a key or value is wrong; the message names
                file and key.
        """
        return read_yaml(cls, read_start(path, str(path)), str(path))

    def rule_for(self, name: str) -> Rule | None:
        """Return the first rule that matches a name."""
        return next(
            (rule for rule in self.rules if fnmatch.fnmatchcase(name, rule.artifacts)), None
        )


class Dropped(Config):
    """The note beside a record: folders whose content was deleted."""

    schema_version: Literal[1] = SCHEMA_VERSION
    folders: tuple[RelativePath, ...]
    dropped_at: AwareDatetime

    def folder_of(self, files: Sequence[FileEntry]) -> str | None:
        """Return the deleted folder that contains one of the files, if any."""
        return next(
            (folder for folder in self.folders for file in files if _is_in(file, folder)), None
        )


@dataclass(frozen=True)
class Garbage:
    """What garbage collection has found, or removed."""

    records: list[str]  # keys of whole publications
    folders: list[tuple[str, str]]  # key of a record that stays, folder
    foreign: list[str]  # keys of records by runs that the caller does not know
    blobs: int
    blob_bytes: int
    removed: bool


def read_dropped(store: ObjectStore, record_key: str) -> Dropped | None:
    """Return the note beside a record, if there is one."""
    key = _note_key(record_key)
    note = store.find(key)
    if note is None:
        return None
    try:
        return Dropped.model_validate(unseal(note))
    except ValueError as error:
        raise ArtifactError(f"{store.url_of(key)} is damaged: {one_line(error)}") from error


def collect_garbage(
    store: ObjectStore,
    records: Records,
    policy: RetentionPolicy,
    *,
    protected: Set[str],
    is_known_run: Callable[[str], bool],
    delete: bool,
) -> Garbage:
    """Find, and with `delete` remove, what the policy does not keep.

    Args:
        store: Where to look.
        records: Reads its records.
        policy: What to keep.
        protected: Digests of artifacts whose records are kept regardless of the policy.
        is_known_run: Whether `protected` covers the run of this id.
        delete: Remove what was found; otherwise nothing is changed.

    Raises:
        ArtifactError: A record is damaged, so that its content is unknown; records would be removed
            beside those of unknown runs; the store is in use or fails.
    """
    objects = store.objects(RECORDS)
    listed = {item.key for item in objects}
    manifests = _read(records, objects)
    noted = _noted(store, manifests, listed)
    kept = _kept(manifests, policy, protected)
    kept_keys = {manifest.key for manifest in kept}
    expired = [manifest.key for manifest in manifests if manifest.key not in kept_keys]
    dropping = _dropping(kept, policy, noted)
    foreign = _foreign(manifests, is_known_run)
    if delete and (expired or dropping):
        if foreign:
            raise ArtifactError(_others_rely_on_it(store, foreign))
        with sweeping(store):
            left = set(store.keys(RECORDS))  # by another collection, which may have been faster
            for key in dropping.keys() & left:
                note = read_dropped(store, key)
                _write_note(store, key, {*(note.folders if note else ()), *dropping[key]})
            # The record is deleted before its note: without the note, it would list deleted files.
            store.delete([*expired, *map(_note_key, expired)])
    live = _pending(store)
    for manifest in kept:
        gone = (*noted[manifest.key], *dropping.get(manifest.key, ()))
        live |= _contents(
            file for file in manifest.files if not any(_is_in(file, folder) for folder in gone)
        )
    sweep = _Sweep(store, records, live, listed, timedelta(hours=policy.grace_hours))
    removed = (
        sweep.remove() if delete else sweep.unreferenced(store.objects(BLOBS), datetime.now(UTC))
    )
    return Garbage(
        records=expired,
        folders=[(key, folder) for key, folders in dropping.items() for folder in folders],
        foreign=foreign,
        blobs=len(removed),
        blob_bytes=sum(found.size_bytes for found in removed),
        removed=delete,
    )


@dataclass
class _Sweep:
    store: ObjectStore
    records: Records
    live: set[str]  # SHA-256 of what must stay
    known: set[str]  # keys of the records whose content `live` accounts for
    grace: timedelta

    def unreferenced(self, blobs: Iterable[ObjectInfo], now: datetime) -> list[ObjectInfo]:
        """Return those that no record names and that are old enough."""
        return [
            blob
            for blob in blobs
            if _sha256_in(blob.key) not in self.live and now - blob.modified_at >= self.grace
        ]

    def remove(self) -> list[ObjectInfo]:
        """Remove unreferenced blobs, slice by slice, and return them."""
        removed: list[ObjectInfo] = []
        slices = {
            blob.key.rpartition("/")[0]
            for blob in self.unreferenced(self.store.objects(BLOBS), datetime.now(UTC))
        }
        for folder in sorted(slices):
            with sweeping(self.store) as lease:
                self._read_new_commits()
                unreferenced = self.unreferenced(self.store.objects(folder), lease.now)
                lease.check()
                mark_sweep(self.store)
                self.store.delete([blob.key for blob in unreferenced])
                mark_sweep(self.store)  # also for publishers that have sent something in between
            removed += unreferenced
        self.store.remove_leftovers(BLOBS, self.grace)
        self._delete_transient()
        return removed

    def _read_new_commits(self) -> None:
        new = [item for item in self.store.objects(RECORDS) if item.key not in self.known]
        for manifest in _read(self.records, new):
            self.live |= _contents(manifest.files)
        self.known.update(item.key for item in new)

    def _delete_transient(self) -> None:
        for folder, kept in TRANSIENT.items():
            old = max(self.grace, kept)
            found = self.store.objects(folder)
            self.store.delete(
                [item.key for item in found if datetime.now(UTC) - item.modified_at > old]
            )


def _read(records: Records, objects: Iterable[ObjectInfo]) -> list[Manifest]:
    """Return the manifests among objects, in their order: by name, the oldest first.

    One that another collection has removed meanwhile is left out.
    """
    return [*records.read([item for item in objects if is_record(item.key)])]


def _noted(
    store: ObjectStore, manifests: list[Manifest], listed: Set[str]
) -> dict[str, tuple[str, ...]]:
    """Return record key -> folders that were deleted before."""
    keys = [manifest.key for manifest in manifests]
    with_note = [key for key in keys if _note_key(key) in listed]
    notes = in_parallel(lambda key: read_dropped(store, key), with_note, SMALL_AT_ONCE)
    found = {key: note.folders for key, note in zip(with_note, notes, strict=True) if note}
    return {key: found.get(key, ()) for key in keys}


def _kept(
    manifests: list[Manifest], policy: RetentionPolicy, protected: Set[str]
) -> list[Manifest]:
    by_name: dict[str, list[Manifest]] = defaultdict(list)
    for manifest in manifests:
        by_name[manifest.name].append(manifest)
    kept: list[Manifest] = []
    for name, published in by_name.items():
        rule = policy.rule_for(name)
        newest = published[-rule.publications :] if rule and rule.publications else published
        kept += [
            manifest for manifest in published if manifest in newest or manifest.digest in protected
        ]
    return kept


def _dropping(
    kept: list[Manifest], policy: RetentionPolicy, noted: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Return record key -> folders to delete now."""
    dropping: dict[str, list[str]] = defaultdict(list)
    # (parent of the name, folder) -> number of publications that hold it
    held: dict[tuple[str, str], int] = defaultdict(int)
    for manifest in sorted(kept, key=lambda manifest: manifest.created_at, reverse=True):
        rule = policy.rule_for(manifest.name)
        for folder, limit in rule.folders.items() if rule else ():
            if folder in noted[manifest.key] or not any(
                _is_in(file, folder) for file in manifest.files
            ):
                continue
            group = (manifest.name.rpartition("/")[0], folder)
            held[group] += 1
            if held[group] > limit:
                dropping[manifest.key].append(folder)
    return dropping


def _foreign(manifests: list[Manifest], is_known_run: Callable[[str], bool]) -> list[str]:
    """Return the keys of records by unknown runs.

    A record without a run was not materialized by any instance.
    """
    runs = {run for manifest in manifests if (run := manifest.made_by.get("run_id"))}
    unknown = {run for run in runs if not is_known_run(run)}
    return [manifest.key for manifest in manifests if manifest.made_by.get("run_id") in unknown]


def _others_rely_on_it(store: ObjectStore, foreign: list[str]) -> str:
    names = sorted({name_in(key) for key in foreign})
    return (
        f"{store.url}: nothing was removed: {len(foreign)} publications are by runs of another "
        f"Dagster instance ({some_of(names, 10)}), which may use what would be deleted; run this "
        "from that instance, or with --only-instance if there is no other"
    )


def _pending(store: ObjectStore) -> set[str]:
    """Return the SHA-256 of content that ranks have announced and that is not committed yet."""
    # What was removed meanwhile was committed, or is too old.
    announced = in_parallel(lambda key: ranks.find(store, key), store.keys(ranks.FOLDER))
    return {sha256 for rank in announced if rank for sha256 in _contents(rank.files)}


def _contents(files: Iterable[FileEntry]) -> set[str]:
    return {blob.sha256 for file in files for blob in file.blobs}


def _write_note(store: ObjectStore, record_key: str, folders: Set[str]) -> None:
    note = Dropped(folders=tuple(sorted(folders)), dropped_at=datetime.now(UTC))
    store.write(_note_key(record_key), seal(note.model_dump(mode="json")))


def _note_key(record_key: str) -> str:
    return record_key.removesuffix(".json") + ".dropped"


def _sha256_in(blob_key: str) -> str:
    return blob_key.rpartition("/")[2]


def _is_in(file: FileEntry, folder: str) -> bool:
    return file.path.startswith(f"{folder}/")
