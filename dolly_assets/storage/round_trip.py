"""Writing, reading back and deleting an object: what a store has to allow.

Also a command, for a pod that has one.

    python -m dolly_assets.storage.round_trip URL KEY

KEY is an object that somebody else has put into the same store. Exit code 1 if anything is not as
it should be.
"""

import secrets
import sys
import time
from dataclasses import dataclass

from dolly_assets.core.errors import ArtifactError, DollyError
from dolly_assets.storage.object_store import ObjectStore

PREFIX = "preflight"  # which every role may write to and delete in
SIZE_BYTES = 1 << 16


@dataclass(frozen=True)
class RoundTrip:
    """What it took, and by how much the store's clock is ahead of this machine's, within the time of a write."""

    write_seconds: float
    read_seconds: float
    skew_seconds: float


def round_trip(store: ObjectStore) -> RoundTrip:
    """Writes an object, reads it back, looks at it in the listing and deletes it.

    Raises:
        ArtifactError, ConfigurationError: The store does not allow it, or gives back something
            else.
    """
    key, data = new_key(), secrets.token_bytes(SIZE_BYTES)
    before, begin = time.time(), time.perf_counter()
    store.write(key, data)
    after, written = time.time(), time.perf_counter()
    try:
        came_back = store.read_all(key) == data
        read = time.perf_counter()
        modified = next(
            found.modified_at for found in store.objects(PREFIX) if found.key == key
        ).timestamp()
    finally:
        store.delete([key])
    if not came_back:
        raise ArtifactError(
            f"{store.url_of(key)} reads back otherwise than it was written: the store is not sound"
        )
    # Stores tell whole seconds, and the object was written somewhere between two looks at the
    # clock.
    skew = min(modified + 1 - before, 0.0) if modified < before else max(modified - after, 0.0)
    return RoundTrip(written - begin, read - written, skew)


def new_key() -> str:
    """A key that nobody else uses."""
    return f"{PREFIX}/{secrets.token_hex(8)}"


def main() -> int:
    """The command; what it found is one line."""
    url, key = sys.argv[1:]
    try:
        store = ObjectStore(url)
        if store.find(key) is None:
            raise ArtifactError(
                f"{url} does not hold what was just written to it elsewhere: it is another store here"
            )
        took = round_trip(store)
    except DollyError as error:
        print(" ".join(str(error).split()))  # noqa: T201 the pod's log
        return 1
    print(f"written in {took.write_seconds:.2f} s, read back in {took.read_seconds:.2f} s, deleted")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
