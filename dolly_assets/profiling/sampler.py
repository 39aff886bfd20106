"""A small process that writes down, tick by tick, what the devices, the host and a process tree do.

    python -m dolly_assets.profiling.sampler --folder DIR --interval-seconds 1 --watch-pid PID

A process of its own, so that a trainer that holds the interpreter lock, hangs or dies is still seen. It
writes `devices.json` (what there is, what is missing and why), then one line per tick to the journal
`samples.jsonl`:

    {"time_seconds": <UTC epoch>, "host": {…}, "process": {…}, "gpu": {"0": {…}, …}}

It ends when the watched process is gone, or on SIGTERM. It knows nothing of training, epochs or reports.
"""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from dolly_assets.errors import ConfigurationError
from dolly_assets.profiling.devices import (
    Hardware,
    ProcessTree,
    find_hardware,
    read_device,
    read_host,
)
from dolly_assets.profiling.journal import Journal

DEVICES_FILE = "devices.json"
SAMPLES_FILE = "samples.jsonl"
LOG_FILE = "sampler.log"
SHORTEST_INTERVAL_SECONDS = 0.1
_STOP_TIMEOUT_SECONDS = 5


class Sampler:
    """Runs the sampler process for the length of a `with` block.

    A sampler that fails never fails the training it watches: look at `is_alive`, and at `sampler.log` in the
    folder.

    Args:
        folder: Where the sampler writes; made when missing. Samples are added to those already there.
        interval_seconds: Time between ticks, at least 0.1.
        watch_pid: The process to watch with its descendants; this process when left out.

    Raises:
        ConfigurationError: The interval is too short.
    """

    def __init__(self, folder: Path, interval_seconds: float = 1.0, watch_pid: int | None = None) -> None:
        _check_interval(interval_seconds)
        self.folder = folder
        self.interval_seconds = interval_seconds
        self.watch_pid = os.getpid() if watch_pid is None else watch_pid
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The sampler's process id, None before it starts."""
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        """Whether the sampler runs now."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> "Sampler":
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "dolly_assets.profiling.sampler"]
        command += ["--folder", str(self.folder), "--interval-seconds", str(self.interval_seconds)]
        command += ["--watch-pid", str(self.watch_pid)]
        # Not our stderr: a sampler stuck in a driver must not hold open a pipe that someone reads to its end.
        with (self.folder / LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


def sample(folder: Path, interval_seconds: float, watch_pid: int) -> None:
    """Samples in this process until the watched process is gone or SIGTERM comes.

    Ticks sit on multiples of the interval from the start, so they don't drift; a tick that a busy host made
    us miss is left out, not made up for. SIGINT is ignored: Ctrl-C in a terminal is the trainer's to handle,
    and we outlive it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    hardware = find_hardware()
    hardware.write(folder / DEVICES_FILE)
    tree = ProcessTree(watch_pid)
    read_host()  # psutil measures CPU between calls: the first has nothing to compare with
    journal = Journal(folder / SAMPLES_FILE)
    started = time.monotonic()
    tick = 1
    while tree.is_alive() and not _stopped_before(started + tick * interval_seconds):
        journal.append(_read_all(hardware, tree))
        ticks_passed = (time.monotonic() - started) / interval_seconds
        tick = max(tick + 1, math.ceil(ticks_passed))
    journal.close()


def _stopped_before(deadline: float) -> bool:
    """Sleeps until the monotonic deadline; True as soon as SIGTERM comes."""
    while (left := deadline - time.monotonic()) > 0:
        received = signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, left)
        if received and received.si_signo == signal.SIGTERM:
            return True
    return False


def _read_all(hardware: Hardware, tree: ProcessTree) -> dict[str, Any]:
    # The time comes first: readers find the lines of an epoch without parsing the others.
    return {
        "time_seconds": round(time.time(), 3),
        "host": read_host(),
        "process": tree.read(),
        "gpu": {str(device.index): read_device(device) for device in hardware.devices},
    }


def _check_interval(interval_seconds: float) -> None:
    if not interval_seconds >= SHORTEST_INTERVAL_SECONDS or math.isinf(interval_seconds):
        raise ConfigurationError(
            f"The sampling interval is {interval_seconds:g} s. Expected at least "
            f"{SHORTEST_INTERVAL_SECONDS:g} s: drivers don't refresh their readings faster."
        )


def main() -> None:
    """The command line of the sampler process."""
    parser = argparse.ArgumentParser(prog="dolly_assets.profiling.sampler", description=sample.__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--interval-seconds", type=float, default=1.0)
    parser.add_argument("--watch-pid", type=int, required=True)
    arguments = parser.parse_args()
    try:
        _check_interval(arguments.interval_seconds)
    except ConfigurationError as error:
        parser.error(str(error))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sample(arguments.folder, arguments.interval_seconds, arguments.watch_pid)


if __name__ == "__main__":
    main()
