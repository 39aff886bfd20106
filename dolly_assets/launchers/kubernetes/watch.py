"""Watches objects and logs of a cluster on threads, across any failure of the connection.

It knows neither training nor Dagster.
"""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from dolly_assets.launchers.kubernetes.api import (
    BAD_REQUEST,
    FORBIDDEN,
    GONE,
    NOT_FOUND,
    explanation,
)
from dolly_assets.launchers.kubernetes.connection import UNAUTHORIZED, no_answer
from dolly_assets.worker.messages import ECHO

WATCH_SECONDS = 60  # before a watch is started again
RETRY_SECONDS = 1.0
LOG_RETRY_SECONDS = (0.2, 5.0)  # the first wait, the longest wait
OVERLAP_SECONDS = 60  # that are read again, for lines that were on their way
LOG_LINES = 20  # the last ones, kept to show why a pod failed


class Watched:
    """The objects of a list, kept current.

    They are listed once and then watched; after an interruption the watch resumes where it ended,
    or from a new list.

    Args:
        listed: Returns the list.
        stream: Returns the events of the list; accepts `resource_version` and `timeout_seconds`.
        wake: Gets an item with every change.

    Attributes:
        trouble: The API's error, on one line; empty while the API answers.
        is_forbidden: Whether that error is for lack of permission.
        is_unauthorized: Whether it is for credentials that are not valid.
        heard_at: When the API answered last, in monotonic seconds.
    """

    def __init__(
        self, listed: Callable[[], Any], stream: Callable[..., Any], wake: "queue.Queue[None]"
    ) -> None:
        self._listed, self._stream, self._wake = listed, stream, wake
        self._lock = threading.Lock()
        self._objects: dict[str, Any] = {}
        self._gone: dict[str, Any] = {}
        self._closed = threading.Event()
        self.is_listed = threading.Event()
        self.heard_at, self.trouble = time.monotonic(), ""
        self.is_forbidden = self.is_unauthorized = False
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def now(self) -> list[Any]:
        """Return the objects that exist, as far as known."""
        with self._lock:
            return list(self._objects.values())

    def gone(self) -> list[Any]:
        """Return the objects that have existed before, in their last known state."""
        with self._lock:
            return list(self._gone.values())

    def close(self) -> None:
        """Stop watching; the thread ends with its request."""
        self._closed.set()

    def _run(self) -> None:
        version: str | None = None
        while not self._closed.is_set():
            try:
                version = version or self._list()
                for event in self._stream(resource_version=version, timeout_seconds=WATCH_SECONDS):
                    if self._closed.is_set():
                        return
                    version = event["object"].metadata.resource_version
                    self._take(event)
                self._heard()
            except Exception as error:  # noqa: BLE001 whatever fails, it is watched again
                version, wait = self._explain(error, version)
                self._closed.wait(wait)

    def _explain(self, error: Exception, version: str | None) -> tuple[str | None, float]:
        """Note an error; return the version to resume from, and the seconds to wait before."""
        from kubernetes.client import ApiException

        if not isinstance(error, ApiException):
            self.trouble = no_answer(error)
            return version, RETRY_SECONDS
        self.trouble, self.is_forbidden = explanation(error), error.status in FORBIDDEN
        self.is_unauthorized = error.status == UNAUTHORIZED
        return None, 0 if error.status == GONE else RETRY_SECONDS

    def _list(self) -> str:
        found = self._listed()
        with self._lock:
            new = {item.metadata.name: item for item in found.items}
            self._gone |= {name: item for name, item in self._objects.items() if name not in new}
            self._objects = new
        self._heard()
        self.is_listed.set()
        return found.metadata.resource_version

    def _take(self, event: dict[str, Any]) -> None:
        item = event["object"]
        with self._lock:
            if event["type"] == "DELETED":
                self._objects.pop(item.metadata.name, None)
                self._gone[item.metadata.name] = item
            else:
                self._objects[item.metadata.name] = item
        self._heard()

    def _heard(self) -> None:
        self.heard_at, self.trouble = time.monotonic(), ""
        self.is_forbidden = self.is_unauthorized = False
        self._wake.put(None)


class LogStream:
    """Copies the log of a pod to our stderr; an interrupted stream resumes where it ended.

    The API ends a stream in order also when the kubelet restarts, so that only the pod's own end
    says that the log is complete.

    Args:
        read: Reads the log of this pod, with `read_namespaced_pod_log`'s options.
        has_ended: Returns whether the pod has ended.
        prefix: Put before each line.

    Attributes:
        last: The last lines.
    """

    def __init__(
        self, read: Callable[..., Any], has_ended: Callable[[], bool], prefix: str
    ) -> None:
        self._read, self._has_ended, self._prefix = read, has_ended, prefix
        self.last: list[str] = []
        self._seen: tuple[str, int] = ("", 0)  # the newest time, and how many lines have it
        self._seen_at = time.monotonic()
        self._finishing, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Wait this long for the rest of the log of a pod that has ended, then stop."""
        self._finishing.set()
        self._thread.join(seconds)
        self._closed.set()

    def _run(self) -> None:
        wait = LOG_RETRY_SECONDS[0]
        while not self._closed.is_set():
            is_last, before = self._finishing.is_set() or self._has_ended(), self._seen
            if self._is_read(is_last=is_last):
                return
            has_news = is_last or self._seen != before
            wait = LOG_RETRY_SECONDS[0] if has_news else min(2 * wait, LOG_RETRY_SECONDS[1])
            # When it is being finished, `finish` bounds the time.
            (self._closed if is_last else self._finishing).wait(wait)

    def _is_read(self, *, is_last: bool) -> bool:
        """Read what is new, and return whether that is the rest.

        Args:
            is_last: Whether the pod had ended before.
        """
        from kubernetes.client import ApiException

        try:
            self._follow()
        except ApiException as error:  # a container that never ran has no log
            return error.status == NOT_FOUND or (is_last and error.status == BAD_REQUEST)
        except Exception:  # noqa: BLE001 the stream was interrupted
            return False
        return is_last

    def _follow(self) -> None:
        """Read to the log's end, skipping lines that were read before."""
        response = self._read(follow=True, timestamps=True, _preload_content=False, **self._since())
        before, repeated = self._seen[0], 0
        for line in response:
            at, _, text = line.decode(errors="replace").rstrip("\n").partition(" ")
            if not _is_time(at):
                continue  # from the kubelet itself, such as that it cannot read the log
            repeated += at == before
            if at > before or (at == before and repeated > self._seen[1]):
                self._take(at, text)
            if self._closed.is_set():
                return

    def _since(self) -> dict[str, int]:
        """Return from when on to read: some time before the newest line, by the node's own clock.

        This machine's clock may differ from it, so that only the time since then is used.
        """
        if not self._seen[0]:
            return {}
        return {"since_seconds": int(time.monotonic() - self._seen_at) + OVERLAP_SECONDS}

    def _take(self, at: str, text: str) -> None:
        self._seen = (at, self._seen[1] + 1 if at == self._seen[0] else 1)
        self._seen_at = time.monotonic()
        if text.startswith(ECHO):
            return  # the message itself arrives through the store
        self.last = [*self.last[1 - LOG_LINES :], text]
        with contextlib.suppress(ValueError):  # stderr is closed
            print(f"{self._prefix}{text}", file=sys.stderr, flush=True)  # noqa: T201 the step's compute log


def _is_time(stamp: str) -> bool:
    """Return whether this is the time that begins a line of a pod's log."""
    try:
        return datetime.fromisoformat(stamp).tzinfo is not None
    except ValueError:
        return False
