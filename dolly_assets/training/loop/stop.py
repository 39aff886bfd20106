"""Requests to stop, by SIGTERM or SIGINT: deferred while there is state to save, else immediate.

A separate thread receives them, so that they work also while the main thread is inside a library.
How the ranks agree on when to stop is up to `epochs.py`.
"""

import os
import signal
import threading
from collections.abc import Callable

# The exit code of a process that stopped on request (EX_TEMPFAIL of sysexits.h): the next run
# resumes.
STOPPED = 75
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether this process was asked to stop. Created once, in the main thread.

    Until `defer` is called, a request ends the process at once, with exit code `STOPPED`.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._on_request: Callable[[], None] = _leave
        self._heard, self._wakeup = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._wakeup, False)

    @property
    def is_requested(self) -> bool:
        """Whether a signal has arrived."""
        return self._requested.is_set()

    def listen(self) -> None:
        """Handle signals as requests from here on."""
        # Python's handlers run in the main thread only, between two bytecodes: a long call into C
        # would delay them. The wake-up descriptor is written by the C-level handler at once.
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda _number, _frame: None)
        threading.Thread(target=self._hear, name="stop", daemon=True).start()

    def defer(self, on_request: Callable[[], None]) -> None:
        """Record requests from here on, instead of ending the process.

        Args:
            on_request: Called once, at the first request, in another thread.
        """
        self._on_request = on_request

    def _hear(self) -> None:
        while number := os.read(self._heard, 1):
            if number[0] in SIGNALS and not self._requested.is_set():
                self._requested.set()
                self._on_request()


def _leave() -> None:
    os._exit(STOPPED)
