"""Ends a rank that makes no progress, after writing the stacks of all its threads to its log.

It knows steps only as moments in time. Every rank has a watchdog: where one rank hangs the others
wait for it, and the logs of all show where.
"""

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

HUNG = 1  # exit code
USUAL_STEPS = 32  # the usual duration is the median of this number of steps
SLOWER_THAN_USUAL = 20.0


class Watchdog:
    """Expects a step within a limit. It watches from `step` until `pause`."""

    def __init__(self, least_seconds: float, on_hang: Callable[[str], None]) -> None:
        """Start to watch, with the first step.

        Args:
            least_seconds: No step is overdue before this time, however fast the steps are.
            on_hang: Called with a description, before the process ends.
        """
        self._least_seconds = least_seconds
        self._on_hang = on_hang
        self._durations: deque[float] = deque(maxlen=USUAL_STEPS)
        self._last: float | None = None  # monotonic; None while paused
        self._changed = threading.Condition()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def step(self) -> None:
        """Record that a step has ended, or that the first one begins."""
        with self._changed:
            now = time.monotonic()
            if self._last is not None:
                self._durations.append(now - self._last)
            self._last = now
            self._changed.notify()

    def pause(self) -> None:
        """Stop watching until the next step: what comes now is not training and has no limit."""
        with self._changed:
            self._last = None
            self._changed.notify()

    @property
    def usual_seconds(self) -> float:
        """The usual duration of a step; 0 before the first."""
        return statistics.median(self._durations) if self._durations else 0.0

    @property
    def limit_seconds(self) -> float:
        """The duration after which a step is overdue."""
        return max(self._least_seconds, SLOWER_THAN_USUAL * self.usual_seconds)

    def _watch(self) -> None:
        with self._changed:
            while True:
                left = (
                    None
                    if self._last is None
                    else self._last + self.limit_seconds - time.monotonic()
                )
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            limit = self.limit_seconds
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        self._on_hang(
            f"no step for {limit:,.0f} s; the log has the stack of every thread of every rank"
        )
        os._exit(HUNG)
