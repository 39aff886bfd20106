"""How long a Job has waited and run, and since when it has been doing either.

It knows no Job: its owner reports every change.
"""

import time


class Clock:
    """Adds up the seconds of waiting for pods and those of all pods running.

    Args:
        waited_before: Seconds of waiting before the clock was created.
    """

    def __init__(self, waited_before: float) -> None:
        self._is_running = False
        self._since = time.monotonic() - waited_before
        self._waited = self._ran = 0.0

    def turn(self, *, is_running: bool) -> bool:
        """Note whether the Job runs now, and return whether that is a change."""
        if is_running == self._is_running:
            return False
        if self._is_running:
            self._ran += self.seconds
        else:
            self._waited += self.seconds
        self._is_running, self._since = is_running, time.monotonic()
        return True

    @property
    def seconds(self) -> float:
        """How long the current state has lasted."""
        return time.monotonic() - self._since

    @property
    def waiting_seconds(self) -> float:
        """The total time of waiting."""
        return self._waited + (0 if self._is_running else self.seconds)

    @property
    def running_seconds(self) -> float:
        """The total time of running."""
        return self._ran + (self.seconds if self._is_running else 0)
