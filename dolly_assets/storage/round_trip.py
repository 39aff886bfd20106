"""Writes, reads back and deletes an object, which a store has to allow.

It knows one store and one object, and is also a command, which `dolly doctor` runs in a pod:

    python -m dolly_assets.storage.round_trip URL KEY

KEY is an object that another machine has put into the same store. The exit code is 1 if anything
fails.
"""

import secrets
import sys
import time
from dataclasses import dataclass

from dolly_assets.core.errors import ArtifactError, DollyError
from dolly_assets.core.text import one_line
from dolly_assets.storage.object_store import ObjectStore

PREFIX = "preflight"  # every role may write and delete below it
SIZE_BYTES = 1 << 16


@dataclass(frozen=True)
class RoundTrip:
    """The durations of a round trip, and the skew of the store's clock."""

    write_seconds: float
    read_seconds: float
    skew_seconds: float  # the store's clock minus this machine's, to the duration of a write


def round_trip(store: ObjectStore) -> RoundTrip:
    """Create an object, read it back, find it in the listing and delete it.

    Raises:
        ArtifactError: The store does not allow it, returns something else, or creates the object
            twice.
        ConfigurationError: The bucket or the credentials are missing.
    """
    key, data = new_key(), secrets.token_bytes(SIZE_BYTES)
    before, begin = time.time(), time.perf_counter()
    store.create(key, data)
    after, written = time.time(), time.perf_counter()
    try:
        is_intact = store.read_all(key) == data
        read = time.perf_counter()
        modified = next(
            found.modified_at for found in store.objects(PREFIX) if found.key == key
        ).timestamp()
        is_overwritten = store.create(key, data)
    finally:
        store.delete([key])
    if not is_intact:
        raise ArtifactError(
            f"{store.url_of(key)} returned different bytes than were written: the store is "
            "corrupting data"
        )
    if is_overwritten:
        raise ArtifactError(
            f"{store.url_of(key)} was overwritten by a conditional put: the store must refuse "
            "`If-None-Match: *` for a key that exists; update it, or use another"
        )
    # Stores report whole seconds, and the object was written some time between two readings of the
    # clock.
    skew = min(modified + 1 - before, 0.0) if modified < before else max(modified - after, 0.0)
    return RoundTrip(written - begin, read - written, skew)


def new_key() -> str:
    """Return a key that no other process uses."""
    return f"{PREFIX}/{secrets.token_hex(8)}"


def main() -> int:
    """Run the command, which prints one line; return the exit code."""
    url, key = sys.argv[1:]
    try:
        store = ObjectStore(url)
        if store.find(key) is None:
            raise ArtifactError(
                f"{url} does not have an object that another machine has just written to it: here "
                "the URL leads to a different store"
            )
        result = round_trip(store)
    except DollyError as error:
        print(one_line(error))  # noqa: T201 the pod's log
        return 1
    print(summary(result))  # noqa: T201
    return 0


def summary(result: RoundTrip) -> str:
    """Return the result of a round trip as a phrase."""
    return (
        f"written in {result.write_seconds:.2f} s, read back in {result.read_seconds:.2f} s, "
        "deleted"
    )


if __name__ == "__main__":
    sys.exit(main())
