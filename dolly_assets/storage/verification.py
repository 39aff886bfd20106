"""Reads publications back, and reports what differs from their manifests.

It knows blobs and records, and repairs nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.blobs import DamagedFileError, MissingBlobError, read_blob
from dolly_assets.storage.flow import CHUNKS_AT_ONCE, in_parallel
from dolly_assets.storage.gc import read_dropped
from dolly_assets.storage.manifest import Blob, Manifest, name_in
from dolly_assets.storage.object_store import ObjectStore


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
    checked: dict[str, DamagedFileError | None] = {}  # sha256 -> what is wrong with it
    for key in records:
        try:
            manifest = Manifest.from_json(store.read_all(key), key)
        except ArtifactError as error:
            yield Verification(name_in(key), None, (Damage(key, str(error)),))
            continue
        blobs = {blob.sha256: (file.path, blob) for file in manifest.files for blob in file.blobs}
        unseen = [item for sha256, item in blobs.items() if sha256 not in checked]
        found = in_parallel(lambda item: _damage_of(store, *item), unseen, CHUNKS_AT_ONCE)
        checked.update(zip((blob.sha256 for _, blob in unseen), found, strict=True))
        yield Verification(
            manifest.name, manifest.digest, tuple(_damaged(store, manifest, checked))
        )


def _damage_of(store: ObjectStore, path: str, blob: Blob) -> DamagedFileError | None:
    try:
        read_blob(store, path, blob)
    except DamagedFileError as error:
        return error
    return None


def _damaged(
    store: ObjectStore, manifest: Manifest, checked: Mapping[str, DamagedFileError | None]
) -> Iterator[Damage]:
    found = [
        (file, error)
        for file in manifest.files
        for blob in file.blobs
        if (error := checked[blob.sha256])
    ]
    dropped = read_dropped(store, manifest.key) if found else None
    for path, (file, error) in {
        file.path: (file, error) for file, error in reversed(found)
    }.items():
        if not (dropped and isinstance(error, MissingBlobError) and dropped.folder_of([file])):
            yield Damage(path, str(error))
