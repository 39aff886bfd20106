"""Waiting for what another process does: its files and its end have no event to await."""

import time
from collections.abc import Callable


def wait_until(happened: Callable[[], bool], seconds: float = 60) -> None:
    """Looks again and again, and fails when it takes longer."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
