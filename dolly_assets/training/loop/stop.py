"""Being asked to stop, by SIGTERM or SIGINT: noted while there is something to save, else obeyed at once.

A thread of its own hears of it, so that it works also while the main thread is deep in a library.
How ranks agree on when to stop is `epochs.py`'s business.
"""

import os
import signal
import threading
from collections.abc import Callable

STOPPED = (
    75  # exit code: stopped, and running it again goes on from there (EX_TEMPFAIL of sysexits.h)
)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether this process was asked to stop. Made once, in the main thread.

    Until `defer` is called, a request ends the process at once, with exit code `STOPPED`.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._on_request: Callable[[], None] = _leave
        self._heard, self._wakeup = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._wakeup, False)

    @property
    def is_requested(self) -> bool:
        """Whether a signal has come."""
        return self._requested.is_set()

    def listen(self) -> None:
        """From here on signals are requests."""
        # The wake-up is written by the signal itself, the handlers only by the main thread when it
        # has time.
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda _number, _frame: None)
        threading.Thread(target=self._hear, name="stop", daemon=True).start()

    def defer(self, on_request: Callable[[], None]) -> None:
        """From here on a request is noted; `on_request` hears of the first one, in another thread."""
        self._on_request = on_request

    def _hear(self) -> None:
        while number := os.read(self._heard, 1):
            if number[0] in SIGNALS and not self._requested.is_set():
                self._requested.set()
                self._on_request()


def _leave() -> None:
    os._exit(STOPPED)
