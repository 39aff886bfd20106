"""How long a Job has waited and run, and since when it does the one or the other."""

import time


class Clock:
    """Adds up seconds by what is going on: waiting for pods, or all of them at work.

    Args:
        waited_before: Seconds that were waited before anybody looked.
    """

    def __init__(self, waited_before: float) -> None:
        self._is_running = False
        self._since = time.monotonic() - waited_before
        self._waited = self._ran = 0.0

    def turn(self, *, is_running: bool) -> bool:
        """Notes what is going on now; True if it was the other before."""
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
        """For how long it has been as it is."""
        return time.monotonic() - self._since

    @property
    def waiting_seconds(self) -> float:
        """All the time of waiting."""
        return self._waited + (0 if self._is_running else self.seconds)

    @property
    def running_seconds(self) -> float:
        """All the time of running."""
        return self._ran + (self.seconds if self._is_running else 0)
