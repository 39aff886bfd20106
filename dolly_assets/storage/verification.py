"""Reads publications back, and reports what differs from their manifests.

Whole files are compared with the hashes that name their artifact, however they are cut into chunks.
It knows blobs and records, and repairs nothing.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.blobs import (
    DamagedFileError,
    MissingBlobError,
    foreign_chunks,
    read_blob,
    read_unverified,
)
from dolly_assets.storage.flow import CHUNKS_AT_ONCE, SMALL_AT_ONCE, in_parallel
from dolly_assets.storage.gc import read_dropped
from dolly_assets.storage.manifest import FileEntry, Manifest, name_in
from dolly_assets.storage.object_store import ObjectStore

RECORDS_AT_ONCE = 64


@dataclass(frozen=True)
class Damage:
    """A damaged file of an artifact, or a damaged manifest, whose path is then its key."""

    path: str
    reason: str


@dataclass(frozen=True)
class Verification:
    """The result of checking one publication. A damaged manifest has no digest."""

    name: str
    digest: str | None
    damaged: tuple[Damage, ...]


def verify(store: ObjectStore, records: Iterable[str]) -> Iterator[Verification]:
    """Check the publications of these keys; content that several share is read once.

    Args:
        store: Where they are.
        records: Keys of manifests.

    Yields:
        One result per publication, as soon as it is checked.
    """
    # By the file's hash and those of its chunks: what is wrong with it.
    checked: dict[tuple[str, ...], DamagedFileError | None] = {}
    left = iter(records)
    while keys := [*islice(left, RECORDS_AT_ONCE)]:
        found = in_parallel(store.find, keys, SMALL_AT_ONCE)
        # One that garbage collection has removed since it was listed is left out.
        opened = {
            key: _opened(record, key)
            for key, record in zip(keys, found, strict=True)
            if record is not None
        }
        manifests = [each for each in opened.values() if isinstance(each, Manifest)]
        _check_small(store, manifests, checked)
        for key, manifest in opened.items():
            if isinstance(manifest, ArtifactError):
                yield Verification(name_in(key), None, (Damage(key, str(manifest)),))
                continue
            for file in manifest.files:  # one after the other: the chunks are read side by side
                if _content(file) not in checked:
                    checked[_content(file)] = _damage_of(store, file)
            damaged = tuple(_damaged(store, manifest, checked))
            if not damaged or store.stat(key):  # else it was removed meanwhile, content and all
                yield Verification(manifest.name, manifest.digest, damaged)


def _opened(record: bytes, key: str) -> Manifest | ArtifactError:
    try:
        return Manifest.from_json(record, key)
    except ArtifactError as error:
        return error


def _check_small(
    store: ObjectStore,
    manifests: Iterable[Manifest],
    checked: dict[tuple[str, ...], DamagedFileError | None],
) -> None:
    """Check the files that are one blob, many at once."""
    small = {
        content: file
        for manifest in manifests
        for file in manifest.files
        if not file.chunks and (content := _content(file)) not in checked
    }
    found = in_parallel(lambda file: _damage_of(store, file), small.values(), CHUNKS_AT_ONCE)
    checked.update(zip(small, found, strict=True))


def _content(file: FileEntry) -> tuple[str, ...]:
    return (file.sha256, *file.chunks)


def _damage_of(store: ObjectStore, file: FileEntry) -> DamagedFileError | None:
    try:
        _check(store, file)
    except DamagedFileError as error:
        return error
    return None


def _check(store: ObjectStore, file: FileEntry) -> None:
    """Compare a file with its hash.

    Raises:
        DamagedFileError: The store has other bytes, or none.
    """
    if not file.chunks:
        read_blob(store, file.path, file.blobs[0])
        return
    whole = hashlib.sha256()
    with ThreadPoolExecutor(CHUNKS_AT_ONCE) as pool:
        left = iter(file.blobs)
        coming = deque(
            pool.submit(read_unverified, store, file.path, blob)
            for blob in islice(left, CHUNKS_AT_ONCE)
        )
        while coming:
            whole.update(coming.popleft().result())
            coming += (
                pool.submit(read_unverified, store, file.path, blob) for blob in islice(left, 1)
            )
    if whole.hexdigest() != file.sha256:
        for blob in file.blobs:  # names the damaged one
            read_blob(store, file.path, blob)
        raise foreign_chunks(file.path, file.sha256)


def _damaged(
    store: ObjectStore,
    manifest: Manifest,
    checked: Mapping[tuple[str, ...], DamagedFileError | None],
) -> Iterator[Damage]:
    found = [(file, error) for file in manifest.files if (error := checked[_content(file)])]
    dropped = read_dropped(store, manifest.key) if found else None
    for file, error in found:
        if not (dropped and isinstance(error, MissingBlobError) and dropped.folder_of([file])):
            yield Damage(file.path, str(error))
