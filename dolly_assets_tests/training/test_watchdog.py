"""A rank that makes no progress, as a process of its own."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HANGS = """
import threading
from dolly_assets.training.loop.watchdog import Watchdog

watchdog = Watchdog(0.2, lambda text: print(text, flush=True))
watchdog.step()
watchdog.step()
{then}

def stuck_in_a_collective():
    threading.Event().wait({wait})

stuck_in_a_collective()
"""


def run(then: str, wait: str) -> subprocess.CompletedProcess[str]:
    code = HANGS.format(then=then, wait=wait)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_rank_that_hangs_ends_and_its_log_shows_where() -> None:
    process = run("", "")
    assert process.returncode == 1
    assert (
        process.stdout == "no step for 0 s; the log has the stack of every thread of every rank\n"
    )
    assert "stuck_in_a_collective" in process.stderr


def test_what_is_not_training_may_take_its_time() -> None:
    process = run("watchdog.pause()", "1")
    assert process.returncode == 0
    assert process.stderr == ""
