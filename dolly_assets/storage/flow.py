"""What bounds a transfer: how many bytes and requests are in flight at once, and how it stops.

It knows threads and sizes, not files and stores.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

CHUNK_BYTES = 8 * 2**20
CHUNKS_AT_ONCE = 12  # what bounds memory
# A chunk that arrives is hashed and written at once: more of them than the cores keep up with only
# evict each other from the processor's caches.
CHUNKS_READ_AT_ONCE = min(CHUNKS_AT_ONCE, 3 * (os.cpu_count() or 1))
# A gateway's answers to small requests have a high latency and little else, so many requests are
# in flight at once.
SMALL_AT_ONCE = 192
BIG_FILES_AT_ONCE = 4  # each is read and hashed by one thread

Progress = Callable[[int, int], None]  # (bytes done, bytes in total)
Item = TypeVar("Item")
Result = TypeVar("Result")


class Room:
    """The bytes that transfers may hold at once; guarded by `changed`.

    Attributes:
        total_bytes: All of it.
        free_bytes: What nobody holds now.
        changed: Notified when there is more, or when a transfer stops.
    """

    def __init__(self, chunks_at_once: int) -> None:
        self.total_bytes = self.free_bytes = chunks_at_once * CHUNK_BYTES
        self.changed = threading.Condition()


class _Shared:
    """What all transfers of this process share, so that many take no more of it than one."""

    def __init__(self) -> None:
        self.to_read, self.to_send = Room(CHUNKS_READ_AT_ONCE), Room(CHUNKS_AT_ONCE)
        self.readers = ThreadPoolExecutor(CHUNKS_READ_AT_ONCE, "chunk")


_shared = _Shared()
# A forked process has neither the threads nor the transfers that hold the room.
os.register_at_fork(after_in_child=_shared.__init__)


class Flow:
    """Bounds the bytes that all threads of a transfer hold, and stops them together.

    Attributes:
        least_bytes: What a smaller request counts as; there is room for SMALL_AT_ONCE of them.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self.least_bytes = room.total_bytes // SMALL_AT_ONCE
        self._reason: BaseException | None = None

    def take(self, size_bytes: int) -> int:
        """Wait until there is room, and return what to give back.

        Raises:
            BaseException: The transfer was stopped; the reason is raised here again.
        """
        # A blob above the limit, as another writer may have made, has all the room to itself.
        room = self._room
        cost = min(max(size_bytes, self.least_bytes), room.total_bytes)
        with room.changed:
            room.changed.wait_for(lambda: self._reason or room.free_bytes >= cost)
            if self._reason:
                raise self._reason
            room.free_bytes -= cost
        return cost

    def give_back(self, cost: int) -> None:
        """Free the room that `take` has returned."""
        with self._room.changed:
            self._room.free_bytes += cost
            # All, since some of those who wait need less than others.
            self._room.changed.notify_all()

    @contextmanager
    def room(self, size_bytes: int) -> Iterator[None]:
        """Hold room for this many bytes while the block runs."""
        cost = self.take(size_bytes)
        try:
            yield
        finally:
            self.give_back(cost)

    def stop(self, reason: BaseException) -> None:
        """Make every thread that asks for room fail with this reason."""
        with self._room.changed:
            self._reason = self._reason or reason
            self._room.changed.notify_all()


def reading_flow() -> Flow:
    """Return the bounds of a fetch, which shares its room with all others of this process."""
    return Flow(_shared.to_read)


def sending_flow() -> Flow:
    """Return the bounds of a publication, which shares its room in the same way."""
    return Flow(_shared.to_send)


def in_parallel(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    at_once: int = 8,
    flow: Flow | None = None,
) -> list[Result]:
    """Return the function's results in the order of the items.

    The first error stops the flow and cancels what has not started.
    """
    items = list(items)
    if len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException as error:
            if flow:
                flow.stop(error)
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def for_each_chunk(function: Callable[[Item], object], chunks: Iterable[Item], flow: Flow) -> None:
    """Call a function with each chunk of a file, on the threads that all fetches share.

    A file has only a few chunks waiting, so that others get their turns. The first error stops the
    flow; nothing is running any more when it is raised.
    """
    running: set[Future[object]] = set()
    try:
        for chunk in chunks:
            if len(running) == CHUNKS_READ_AT_ONCE:
                running = _unfinished(running)
            running.add(_shared.readers.submit(function, chunk))
        while running:
            running = _unfinished(running)
    except BaseException as error:
        flow.stop(error)
        for future in running:
            future.cancel()
        wait(running)
        raise


def _unfinished(running: set[Future[object]]) -> set[Future[object]]:
    """Wait until one has finished, and return the others; raise its error, if it has one."""
    done, rest = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return rest


def for_each_file(
    function: Callable[[Item], Result],
    files: Iterable[Item],
    size_bytes: Callable[[Item], int],
    flow: Flow,
) -> list[Result]:
    """Return the function's results: for big files, a few at once, then for small ones, many."""
    by_size = sorted(files, key=size_bytes, reverse=True)
    big = [file for file in by_size if size_bytes(file) > CHUNK_BYTES]
    small = by_size[len(big) :]
    return [
        *in_parallel(function, big, BIG_FILES_AT_ONCE, flow),
        *in_parallel(function, small, SMALL_AT_ONCE, flow),
    ]


def byte_counter(total_bytes: int, on_progress: Progress | None) -> Callable[[int], None]:
    """Return a function that adds up the bytes of several threads and reports one sum at a time."""
    lock, done_bytes = threading.Lock(), 0

    def advance(size_bytes: int) -> None:
        nonlocal done_bytes
        with lock:
            done_bytes += size_bytes
            if on_progress:
                on_progress(done_bytes, total_bytes)

    return advance
