"""Calls on a thread of their own: one that never returns costs who waits for it the timeout and nothing more."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """Makes one call at a time.

    The thread is a daemon: a call that is still out doesn't hold up the process' end.
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
        """For how long a call has been out, 0 when none is."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    @property
    def is_busy(self) -> bool:
        """Whether a call is out whose answer nobody has taken."""
        return self._busy_since is not None

    def start(self, call: Callable[[], T]) -> None:
        """Begins a call; none may be out. It must not raise."""
        assert not self.is_busy
        self._busy_since = time.monotonic()
        self._calls.put(call)

    def answer(self, timeout_seconds: float = 0.0) -> T | None:
        """The answer to the call that is out, or None when it takes longer."""
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
