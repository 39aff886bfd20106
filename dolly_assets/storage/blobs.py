"""One blob of the store: whether it is complete, and its bytes, verified.

It knows hashes and sizes, not files on this machine.
"""

import hashlib
import logging

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.manifest import Blob
from dolly_assets.storage.object_store import ObjectStore

logger = logging.getLogger(__name__)

# How often a blob with the wrong content is read before it counts as damaged: the connection may
# have corrupted it.
READS = 3


class DamagedFileError(ArtifactError):
    """A file's bytes in the store are not those its artifact was published with."""


class MissingBlobError(DamagedFileError):
    """Some of a file's bytes are not in the store at all."""


def has_blob(store: ObjectStore, blob: Blob) -> bool:
    """Return whether the store holds a blob in full; one of another size is damaged, and logged."""
    found_bytes = store.size_bytes(blob.key)
    if found_bytes not in (None, blob.size_bytes):
        logger.warning(
            "%s has %d bytes instead of %d", store.url_of(blob.key), found_bytes, blob.size_bytes
        )
    return found_bytes == blob.size_bytes


def repair_blob(store: ObjectStore, blob: Blob, data: bytes) -> None:
    """Overwrite a damaged blob with the content that its name stands for.

    Raises:
        ArtifactError: The store fails, or refuses it, as it does if only new objects may be put.
    """
    try:
        store.write(blob.key, data)
    except ArtifactError as error:
        raise ArtifactError(
            f"{store.url_of(blob.key)} is damaged and cannot be overwritten ({error}): delete it, "
            "as an account that may, and publish the same content again"
        ) from error
    logger.warning("%s was damaged and has been repaired", store.url_of(blob.key))


def read_blob(store: ObjectStore, path: str, blob: Blob) -> memoryview:
    """Return a piece of the file at this path, verified.

    Raises:
        DamagedFileError: The store has other bytes, or none (MissingBlobError).
        ArtifactError: The store fails.
    """
    data, found = memoryview(b""), ""
    for _ in range(READS):
        data = read_unverified(store, path, blob)
        found = hashlib.sha256(data).hexdigest()
        if found == blob.sha256:
            return data
        logger.warning(
            "%s arrived with other content (sha256 %s, %d bytes)",
            store.url_of(blob.key),
            found,
            len(data),
        )
    raise DamagedFileError(_damage(store, path, blob, f"{found} ({len(data)} bytes)"))


def read_unverified(store: ObjectStore, path: str, blob: Blob) -> memoryview:
    """Return a piece of the file at this path, of the right size, not yet compared with its hash.

    Raises:
        DamagedFileError: The store has less, more, or nothing (MissingBlobError).
        ArtifactError: The store fails.
    """
    if not blob.size_bytes:
        if stored_bytes := store.size_bytes(blob.key):
            raise _other_size(store, path, blob, stored_bytes)
        return memoryview(b"")
    try:
        # One byte more than there should be, so that what was appended is noticed.
        data = store.read(blob.key, 0, blob.size_bytes + 1)
    except ArtifactError:
        # A truncated blob makes a store refuse the range; only the size tells that from a store
        # that fails.
        stored_bytes = store.size_bytes(blob.key)
        if stored_bytes == blob.size_bytes:
            raise
        raise _other_size(store, path, blob, stored_bytes) from None
    if len(data) != blob.size_bytes:
        raise _other_size(store, path, blob, store.size_bytes(blob.key))
    return data


def foreign_chunks(path: str, sha256: str) -> DamagedFileError:
    """Return the error for a file whose chunks are each as named, and together another file."""
    return DamagedFileError(
        f"file {path!r} is damaged in the store: its chunks do not make up the file with sha256 "
        f"{sha256} that was published; its manifest was changed, publish the same content again"
    )


def _other_size(
    store: ObjectStore, path: str, blob: Blob, stored_bytes: int | None
) -> DamagedFileError:
    if stored_bytes is None:
        return MissingBlobError(_damage(store, path, blob, "nothing"))
    return DamagedFileError(_damage(store, path, blob, f"{stored_bytes} bytes"))


def _damage(store: ObjectStore, path: str, blob: Blob, found: str) -> str:
    return (
        f"file {path!r} is damaged in the store from byte {blob.start}: expected sha256 "
        f"{blob.sha256} ({blob.size_bytes} bytes), found {found}; remove {store.url_of(blob.key)} "
        "and publish the same content again"
    )
