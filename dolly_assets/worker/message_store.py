"""Messages through the store: one small object each, in order, so that nobody has to listen when they are sent.

PREFIX/<nanoseconds since 1970>-<pod>-<rank>.json   a dagster_pipes message
"""

import json
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dagster_pipes import (
    PipesDefaultMessageWriter,
    PipesMessage,
    PipesMessageWriterChannel,
    PipesParams,
)

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.object_store import ObjectStore

STORE_PREFIX = "store_prefix"  # the key of the pipes parameters
POD = "pod"
AGAIN_SECONDS = 5.0
CLOSING_SECONDS = 120.0  # for what could not be sent yet
# that a message may come after a newer one: clocks differ, and a store may be away for one node
LATE_SECONDS = 1800


class MessageWriter(PipesDefaultMessageWriter):
    """Writes to the store if the parameters name a prefix in it, else to the file that they name."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @contextmanager
    def open(self, params: PipesParams) -> Iterator[PipesMessageWriterChannel]:
        """Opens the channel; when the block ends, everything has been sent."""
        if STORE_PREFIX not in params:
            with super().open(params) as channel:
                yield channel
            return
        sender = f"{params[POD]}-{os.environ.get('RANK', '0')}"
        channel = _Channel(self._store, str(params[STORE_PREFIX]), sender)
        try:
            yield channel
        finally:
            channel.close()


class _Channel(PipesMessageWriterChannel):
    """Sends on a thread of its own: a store that is away for a while does not hold up a training."""

    def __init__(self, store: ObjectStore, prefix: str, sender: str) -> None:
        self._store, self._prefix, self._sender = store, prefix, sender
        self._messages: queue.Queue[PipesMessage | None] = queue.Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="messages", daemon=True)
        self._thread.start()

    def write_message(self, message: PipesMessage) -> None:
        self._messages.put(message)

    def close(self) -> None:
        self._messages.put(None)
        self._closing.set()
        self._thread.join(CLOSING_SECONDS)
        if self._thread.is_alive():
            raise ArtifactError(
                f"{self._store.url_of(self._prefix)}: what the worker has to say could not be written"
            )

    def _send_all(self) -> None:
        while message := self._messages.get():
            key = f"{self._prefix}/{time.time_ns():020d}-{self._sender}.json"
            while True:
                try:
                    self._store.write(key, json.dumps(message).encode())
                    break
                except ArtifactError:
                    self._closing.wait(AGAIN_SECONDS)


def new_messages(store: ObjectStore, prefix: str, seen: set[str]) -> Iterator[str]:
    """The messages, as JSON, whose keys were not seen before; their keys are added.

    Of those that are older than the newest one seen by `LATE_SECONDS`, none is expected any more.
    """
    newest_ns = int(max(seen).rpartition("/")[2].partition("-")[0]) if seen else 0
    after = f"{prefix}/{max(0, newest_ns - LATE_SECONDS * 10**9):020d}"
    for key in sorted(set(store.keys(prefix, after=after)) - seen):
        message = store.read_all(key).decode()
        seen.add(key)
        yield message
