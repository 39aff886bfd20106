"""Trains epochs of a family on this machine, with the store that the environment names.

A process with a Dagster instance of its own: the pools of one would let one training run after the
other.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.kubernetes_demo.bench import DATASET, LIMIT_SECONDS, Demo, train
from dolly_assets.core.environment import Environment
from dolly_assets.pipeline.session import Session
from dolly_assets_tests.waiting import wait_until


@contextmanager
def training_beside(bench: Demo, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that trains all epochs, and end it afterwards as Ctrl-C does."""
    command = [sys.executable, "-m", "benchmarks.kubernetes_demo.here", name]
    home = {"DOLLY_HOME": str(bench.hand.folder / "beside")}
    process = subprocess.Popen(
        [*command, str(len(bench.epochs))], env={**os.environ, **home}, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        process.wait(LIMIT_SECONDS)


def wait_for(bench: Demo, name: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has trained all epochs."""

    def is_done() -> bool:
        assert process.poll() in {None, 0}, "the training beside has failed"
        return len(bench.published_at(name)) == len(bench.epochs)

    wait_until(is_done, 5 * LIMIT_SECONDS)


def main() -> None:
    """Train the epochs up to the given one of the given family."""
    session = Session(Environment.read())
    session.register_datasets([DATASET])
    train(session, sys.argv[1], range(1, int(sys.argv[2]) + 1))


if __name__ == "__main__":
    main()
