"""Calls on another thread: one that never returns costs its caller a timeout, and no more."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """Makes one call at a time.

    The thread is a daemon: a call that has not returned does not keep the process alive.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._busy_since: float | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._answers.put(self._calls.get()())

    @property
    def busy_seconds(self) -> float:
        """How long a call has been running; 0 if none is."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    @property
    def is_busy(self) -> bool:
        """Whether a call was started whose answer has not been taken."""
        return self._busy_since is not None

    def start(self, call: Callable[[], T]) -> None:
        """Start a call, which must not raise; the last one's answer must have been taken."""
        assert not self.is_busy
        self._busy_since = time.monotonic()
        self._calls.put(call)

    def answer(self, timeout_seconds: float = 0.0) -> T | None:
        """Return the answer to the call, or None if it takes longer than the timeout."""
        try:
            value = (
                self._answers.get(timeout=max(timeout_seconds, 0.0))
                if timeout_seconds > 0
                else self._answers.get_nowait()
            )
        except queue.Empty:
            return None
        self._busy_since = None
        return value
