"""Messages through the store: one small object each, in order, so that they can be read later.

    PREFIX/<nanoseconds since 1970>-<pod>-<rank>.json   a dagster_pipes message

It knows no Job and no meaning of a message.
"""

import json
import os
import queue
import re
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

NAME = re.compile(r"\d{20}-(?P<pod>[^/]+)-\d+\.json", re.ASCII)
MOST_BYTES = 2**20  # of one message; what is longer is cut off, and so cannot be read
STORE_PREFIX = "store_prefix"  # the key of the pipes parameters
POD = "pod"
RETRY_SECONDS = 5.0
CLOSING_SECONDS = 120.0  # for messages that are not sent yet
# How much later than a newer one a message may arrive: clocks differ, and the store may be
# unreachable for one node.
LATE_SECONDS = 1800


class MessageWriter(PipesDefaultMessageWriter):
    """Writes to the store if the parameters have a prefix in it, else to the file they name."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @contextmanager
    def open(self, params: PipesParams) -> Iterator[PipesMessageWriterChannel]:
        """Open the channel; when the block ends, everything has been sent."""
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
    """Sends on its own thread, so that a store that is unreachable does not delay a training."""

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
                f"{self._store.url_of(self._prefix)}: the worker's last messages could not be "
                "written; check the store"
            )

    def _send_all(self) -> None:
        while message := self._messages.get():
            key = f"{self._prefix}/{time.time_ns():020d}-{self._sender}.json"
            while True:
                try:
                    self._store.write(key, json.dumps(message).encode())
                    break
                except ArtifactError:
                    self._closing.wait(RETRY_SECONDS)


def new_messages(store: ObjectStore, prefix: str, seen: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the messages whose keys are new, in order: the name of the pod, and the JSON.

    Messages that are older than the newest known one by `LATE_SECONDS` are no longer expected;
    neither one from the future nor an object of another name changes that.

    Args:
        store: Where they are.
        prefix: The folder of one Job's messages.
        seen: Keys of earlier messages; those of the new ones are added.
    """
    newest_ns = int(max(seen).rpartition("/")[2].partition("-")[0]) if seen else 0
    oldest_ns = min(newest_ns, time.time_ns()) - LATE_SECONDS * 10**9
    for item in store.objects(prefix, after=f"{prefix}/{max(0, oldest_ns):020d}"):
        name = NAME.fullmatch(item.key.removeprefix(f"{prefix}/"))
        if item.key in seen or not name:
            continue
        # A store refuses a range of nothing.
        message = store.read(item.key, 0, MOST_BYTES) if item.size_bytes else b""
        seen.add(item.key)
        yield name["pod"], bytes(message)
