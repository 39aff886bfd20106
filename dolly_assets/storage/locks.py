"""Keeps committing and garbage collection apart, through the store alone.

It knows no names and no files.

    locks/<commit|sweep>-<id>  an object for each process that is at it; its age is told by the store's clock

Each side first puts its own lock and then looks for the other's. Stores list what was put before
(S3 has since 2020), so of two that begin at the same time at least one sees the other. A commit
waits for a sweep. A sweep waits for commits a few seconds, then takes its lock back and tries again
later, so that nobody waits behind it for long. The lock of a process that died counts until its
lease has run out.
"""

import logging
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.object_store import ObjectInfo, ObjectStore

logger = logging.getLogger(__name__)

FOLDER = "locks"
LAST_SWEEP = f"{FOLDER}/last"
# Twice what the longest work between two renewals takes, retries of the store included.
LEASE_SECONDS = {"commit": 1800, "sweep": 600}
POLL_SECONDS = 0.2
GIVE_WAY_SECONDS = 5.0  # for the commits that are running; those that come wait so long
SWEEP_PATIENCE_SECONDS = 300


class Lease:
    """A lock that this process holds, for a limited time.

    Attributes:
        now: the store's clock when the lock was last put and the others were looked for.
    """

    now: datetime

    def __init__(self, store: ObjectStore, kind: str) -> None:
        self._store, self._kind = store, kind
        self._key = f"{FOLDER}/{kind}-{uuid.uuid4().hex}"
        self.renew()

    def renew(self) -> None:
        """Counts from now on."""
        self._renewed_at = time.monotonic()
        self._store.write(self._key, b"")

    def check(self) -> None:
        """Raises ArtifactError when too little is left of the lease to go on."""
        held_seconds = time.monotonic() - self._renewed_at
        if held_seconds > LEASE_SECONDS[self._kind] / 2:
            raise ArtifactError(
                f"{self._store.url}: the {self._kind} took {held_seconds:.0f} s, too long to be safe beside others; "
                "nothing was changed, try again"
            )

    def others(self, *kinds: str) -> list[str]:
        """The live locks of other processes."""
        found = self._store.objects(FOLDER)
        own = next((lock for lock in found if lock.key == self._key), None)
        if own is None:
            raise ArtifactError(
                f"{self._store.url}: {self._key} was removed while it was held; try again"
            )
        self.now = own.modified_at
        return [lock.key for lock in found if lock is not own and self._is_live(lock, kinds)]

    def _is_live(self, lock: ObjectInfo, kinds: tuple[str, ...]) -> bool:
        kind = lock.key.removeprefix(f"{FOLDER}/").partition("-")[0]
        return kind in kinds and self.now - lock.modified_at < timedelta(
            seconds=LEASE_SECONDS[kind]
        )

    def release(self) -> None:
        """Gives the lock back. When that fails, it runs out by itself."""
        try:
            self._store.delete([self._key])
        except ArtifactError as error:
            logger.warning("%s stays for %d s: %s", self._key, LEASE_SECONDS[self._kind], error)


def mark_sweep(store: ObjectStore) -> None:
    """Says that content is about to be removed, so that nobody relies on what was there before."""
    store.write(LAST_SWEEP, uuid.uuid4().bytes)


def last_sweep(store: ObjectStore) -> bytes | None:
    """What tells one sweep from another; None before the first."""
    return store.find(LAST_SWEEP)


@contextmanager
def committing(store: ObjectStore) -> Iterator[Lease]:
    """While the block runs, no content is removed from the store. Waits for a sweep to end."""
    while True:
        with _held(store, "commit") as lease:
            sweeps = lease.others("sweep")
            if not sweeps:
                yield lease
                return
        # Without the lock, or both would wait for each other.
        logger.info("waiting for the garbage collection %s to end", sweeps[0])
        time.sleep(POLL_SECONDS)


@contextmanager
def sweeping(store: ObjectStore) -> Iterator[Lease]:
    """While the block runs, nobody else commits or sweeps.

    Raises:
        ArtifactError: others were at it for SWEEP_PATIENCE_SECONDS.
    """
    began_at = time.monotonic()
    while True:
        with _held(store, "sweep") as lease:
            give_way_at = time.monotonic() + GIVE_WAY_SECONDS
            while (others := lease.others("commit", "sweep")) and time.monotonic() < give_way_at:
                time.sleep(POLL_SECONDS)
            if not others:
                yield lease
                return
        if time.monotonic() - began_at > SWEEP_PATIENCE_SECONDS:
            raise ArtifactError(
                f"{store.url} is in use ({', '.join(others[:3])}): nothing was removed; try again later"
            )
        time.sleep(random.uniform(POLL_SECONDS, GIVE_WAY_SECONDS))  # noqa: S311 so that two sweeps do not meet again


@contextmanager
def _held(store: ObjectStore, kind: str) -> Iterator[Lease]:
    lease = Lease(store, kind)
    try:
        yield lease
    finally:
        lease.release()
