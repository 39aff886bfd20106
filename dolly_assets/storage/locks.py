"""Keeps commits and garbage collection apart, and some commits from each other.

It works through the store alone.

It knows no names and no files.

    locks/<commit|sweep>-<id>  an object for each process that commits or sweeps; its age is
                               measured by the store's clock

Each side first puts its own lock and then looks for the other's. Stores list what was put before
(S3 has since 2020), so of two that begin at the same time at least one sees the other. A commit
waits for a sweep. A sweep waits for commits a few seconds, then withdraws its lock and tries again
later, so that no commit waits behind it for long. The lock of a process that died counts until its
lease has expired, and is deleted by a later sweep. One whose time lies more than a lease ahead, as
after a clock was set back, counts as such a lock.
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
# Twice the longest time between two renewals, including the store's retries.
DECISION = "commit-decision"
LEASE_SECONDS = {"commit": 1800, "sweep": 600, DECISION: 60}
POLL_SECONDS = 0.2
GIVE_WAY_SECONDS = 5.0  # a sweep waits for running commits; new ones wait as long
SWEEP_PATIENCE_SECONDS = 300
DECISION_PATIENCE_SECONDS = 150  # a killed process's lock counts for its lease


class Lease:
    """A lock that this process holds, for a limited time.

    Attributes:
        now: The store's clock when the lock was last put and the others were listed.
    """

    now: datetime

    def __init__(self, store: ObjectStore, kind: str) -> None:
        self._store, self._kind = store, kind
        self._key = f"{FOLDER}/{kind}-{uuid.uuid4().hex}"
        self.renew()

    def renew(self) -> None:
        """Put the lock again, so that the lease counts from now on."""
        self._renewed_at = time.monotonic()
        self._store.write(self._key, b"")

    def check(self) -> None:
        """Check that enough is left of the lease to continue.

        Raises:
            ArtifactError: Too little is left.
        """
        held_seconds = time.monotonic() - self._renewed_at
        if held_seconds > LEASE_SECONDS[self._kind] / 2:
            raise ArtifactError(
                f"{self._store.url}: the {self._kind} took {held_seconds:.0f} s, too long to be "
                "safe beside other processes; nothing was changed, try again"
            )

    def others(self, *kinds: str) -> list[str]:
        """Return the live locks of other processes.

        Args:
            kinds: Some of "commit", "sweep" and DECISION.
        """
        found = self._store.objects(FOLDER)
        own = next((lock for lock in found if lock.key == self._key), None)
        if own is None:
            raise ArtifactError(
                f"{self._store.url}: {self._key} was removed while it was held; try again"
            )
        self.now = own.modified_at
        return [lock.key for lock in found if lock is not own and self._is_live(lock, kinds)]

    def _is_live(self, lock: ObjectInfo, kinds: tuple[str, ...]) -> bool:
        age = abs(self.now - lock.modified_at)
        return any(
            lock.key.startswith(f"{FOLDER}/{kind}-")
            and age < timedelta(seconds=LEASE_SECONDS[kind])
            for kind in kinds
        )

    def delete_dead(self) -> None:
        """Delete the locks of processes that died: those whose lease expired a lease ago."""
        dead = [
            lock.key
            for lock in self._store.objects(FOLDER)
            for kind in [lock.key.removeprefix(f"{FOLDER}/").partition("-")[0]]
            if kind in LEASE_SECONDS
            and abs(self.now - lock.modified_at) > timedelta(seconds=2 * LEASE_SECONDS[kind])
        ]
        if dead:
            self._store.delete(dead)

    def release(self) -> None:
        """Delete the lock. If that fails, it expires."""
        try:
            self._store.delete([self._key])
        except ArtifactError as error:
            logger.warning(
                "lock %s remains for %d s: %s", self._key, LEASE_SECONDS[self._kind], error
            )


def mark_sweep(store: ObjectStore) -> None:
    """Note in the store that content is about to be removed.

    No publisher then relies on content that it has seen before.
    """
    store.write(LAST_SWEEP, uuid.uuid4().bytes)


def last_sweep(store: ObjectStore) -> bytes | None:
    """Return an id of the last sweep; None before the first."""
    return store.find(LAST_SWEEP)


@contextmanager
def committing(store: ObjectStore) -> Iterator[Lease]:
    """Keep content from being removed from the store while the block runs; wait for a sweep."""
    is_waiting = False
    while True:
        with _held(store, "commit") as lease:
            sweeps = lease.others("sweep")
            if not sweeps:
                yield lease
                return
        # Without the lock, or both would wait for each other.
        if not is_waiting:
            logger.warning(
                "waiting for garbage collection (%s) of %s to finish, at most %d s",
                sweeps[0],
                store.url,
                LEASE_SECONDS["sweep"],
            )
        is_waiting = True
        time.sleep(POLL_SECONDS)


@contextmanager
def sweeping(store: ObjectStore) -> Iterator[Lease]:
    """Keep other processes from committing or sweeping while the block runs.

    Raises:
        ArtifactError: Others did so for SWEEP_PATIENCE_SECONDS.
    """
    began_at = time.monotonic()
    while True:
        with _held(store, "sweep") as lease:
            give_way_at = time.monotonic() + GIVE_WAY_SECONDS
            while (others := lease.others("commit", "sweep")) and time.monotonic() < give_way_at:
                time.sleep(POLL_SECONDS)
            if not others:
                lease.delete_dead()
                yield lease
                return
        if time.monotonic() - began_at > SWEEP_PATIENCE_SECONDS:
            raise ArtifactError(
                f"{store.url} is in use ({', '.join(others[:3])}): nothing was removed; try again "
                "later"
            )
        # A random wait, so that two sweeps do not meet again.
        time.sleep(random.uniform(POLL_SECONDS, GIVE_WAY_SECONDS))  # noqa: S311 not a secret


@contextmanager
def deciding(store: ObjectStore) -> Iterator[Lease]:
    """Keep out of the block all others that call this for the same store.

    Call the lease's `check` before what was decided is committed.

    Raises:
        ArtifactError: Others were in it for DECISION_PATIENCE_SECONDS.
    """
    began_at, is_waiting = time.monotonic(), False
    while True:
        with _held(store, DECISION) as lease:
            others = lease.others(DECISION)
            if not others:
                yield lease
                return
        if time.monotonic() - began_at > DECISION_PATIENCE_SECONDS:
            raise ArtifactError(
                f"{store.url}: another process is promoting a model ({others[0]}): nothing was "
                "changed; try again later"
            )
        if not is_waiting:
            logger.warning("waiting for another promotion (%s) of %s", others[0], store.url)
        is_waiting = True
        time.sleep(random.uniform(POLL_SECONDS / 4, 2 * POLL_SECONDS))  # noqa: S311 not a secret


@contextmanager
def _held(store: ObjectStore, kind: str) -> Iterator[Lease]:
    lease = Lease(store, kind)
    try:
        yield lease
    finally:
        lease.release()
