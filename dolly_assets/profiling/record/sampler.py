"""A small process that writes down, tick by tick, what the devices, the host and a process tree do.

    python -m dolly_assets.profiling.record.sampler --folder DIR --interval-seconds 1 --watch-pid
    PID

A process of its own, so that a trainer that holds the interpreter lock, hangs or dies is still
seen. It writes

- `devices.json`: what there is, how it is connected, what is missing and why (see devices.py),
- `samples.jsonl`: one line per tick (see samples.py for what is in it),
- `events.jsonl`: what happened at a moment (see events.py),
- `health.jsonl`: the GPUs' error counts, when the sampler starts, ends, and after an event (see
  events.py).

It ends when the watched process is gone, or on SIGTERM. It knows nothing of training, epochs or
reports.
"""

import argparse
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.profiling.record.devices import DEVICES_FILE, DRIVER_SILENT, Hardware
from dolly_assets.profiling.record.events import EVENTS_FILE, HEALTH_FILE, Event
from dolly_assets.profiling.record.journal import Journal

if TYPE_CHECKING:
    from dolly_assets.hardware.control_group import ControlGroup
    from dolly_assets.profiling.record.gpus import GpuWatch

SAMPLES_FILE = "samples.jsonl"
LOG_FILE = "sampler.log"
SHORTEST_INTERVAL_SECONDS = 0.1
SLOW_SECONDS = 10.0  # between readings of the dear fields
LOOK_SECONDS = 1.0  # to wait for the driver before the first sample; it may answer later
_STOP_TIMEOUT_SECONDS = 5
_HEALTH_TIMEOUT_SECONDS = 1.0


class Sampler:
    """Runs the sampler process for the duration of a `with` block.

    A sampler that fails never fails the training that it watches: check `is_alive`, and
    `sampler.log` in the folder.

    Args:
        folder: Where the sampler writes; created if missing. Samples are appended to existing ones.
        interval_seconds: Time between ticks, at least 0.1.
        watch_pid: The process to watch with its descendants; this process by default.
        leave_out: Descendants that are not counted.

    Raises:
        ConfigurationError: The interval is too short.
    """

    def __init__(
        self,
        folder: Path,
        interval_seconds: float = 1.0,
        watch_pid: int | None = None,
        leave_out: Sequence[int] = (),
    ) -> None:
        _check_interval(interval_seconds)
        self.folder = folder
        self.interval_seconds = interval_seconds
        self.watch_pid = os.getpid() if watch_pid is None else watch_pid
        self.leave_out = leave_out
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the sampler; None before it starts."""
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        """Whether the sampler is running."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> "Sampler":
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "dolly_assets.profiling.record.sampler"]
        command += ["--folder", str(self.folder), "--interval-seconds", str(self.interval_seconds)]
        command += ["--watch-pid", str(self.watch_pid)]
        command += [f"--leave-out={pid}" for pid in self.leave_out]
        # Not our stderr: a sampler that hangs in a driver must not keep a pipe open that is read to
        # its end.
        with (self.folder / LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
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


def sample(folder: Path, interval_seconds: float, watch_pid: int, leave_out: Sequence[int]) -> None:
    """Sample in this process until the watched process ends or SIGTERM arrives.

    Ticks are multiples of the interval from the start, so they do not drift; a tick that is missed
    on a busy host is skipped. SIGINT is ignored: Ctrl-C in a terminal is for the trainer, which the
    sampler outlives.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    recorder = Recorder(folder, interval_seconds, watch_pid, leave_out)
    started = time.monotonic()
    tick = 1
    while recorder.watched_is_alive() and not _stopped_before(started + tick * interval_seconds):
        recorder.sample()
        ticks_passed = (time.monotonic() - started) / interval_seconds
        tick = max(tick + 1, math.ceil(ticks_passed))
    recorder.end()


class Recorder:
    """Takes samples and writes them.

    Readings that take longer than an interval are left out of a sample.
    """

    def __init__(
        self, folder: Path, interval_seconds: float, watch_pid: int, leave_out: Sequence[int]
    ) -> None:
        from dolly_assets.hardware.control_group import ControlGroup
        from dolly_assets.profiling.record.host import ProcessTree, read_host, read_self

        self._folder = folder
        self._tree = ProcessTree(watch_pid, leave_out)
        self._container = ControlGroup()
        self._read_host, self._read_self = read_host, read_self
        self._timeout_seconds = min(0.9 * interval_seconds, 0.5)
        self._slow_at = 0.0
        self._samples = Journal(folder / SAMPLES_FILE)
        self._events = Journal(folder / EVENTS_FILE)
        self._health = Journal(folder / HEALTH_FILE)
        self._watch, reason = _watch_gpus(self._note)
        read_host()  # psutil measures CPU between calls: the first has nothing to compare with
        self._hardware = _find_host(self._container, reason)
        if not self._look(LOOK_SECONDS):
            self._hardware.write(folder / DEVICES_FILE)

    def watched_is_alive(self) -> bool:
        """Return whether the watched process still runs."""
        return self._tree.is_alive()

    def sample(self) -> None:
        """Take one sample and write it."""
        self._look()
        is_slow = time.monotonic() >= self._slow_at
        # The time comes first: readers find the lines of an epoch without parsing the others.
        record: dict[str, Any] = {"time_seconds": round(time.time(), 3)}
        if self._watch:
            record["gpu"] = self._watch.read(is_slow, self._timeout_seconds)
        record |= {"host": self._read_host(), "process": self._tree.read()}
        record["sampler"] = self._read_self(with_memory=is_slow)
        if is_slow:
            self._slow_at = time.monotonic() + SLOW_SECONDS
            record["container"] = self._container.read()
        self._samples.append(record)
        if self._watch and self._watch.has_news:
            self._write_health("event")

    def end(self) -> None:
        """Write the error counts at the end."""
        self._write_health("end")

    def _look(self, timeout_seconds: float = 0.0) -> bool:
        """Write the description of the GPUs once they are found; return whether they just were."""
        if not self._watch or not self._watch.look(timeout_seconds):
            return False
        self._hardware = self._watch.described(self._hardware)
        self._hardware.write(self._folder / DEVICES_FILE)
        self._write_health("start")
        return True

    def _write_health(self, when: str) -> None:
        if self._watch and (counts := self._watch.read_health(_HEALTH_TIMEOUT_SECONDS)):
            self._health.append(
                {"time_seconds": round(time.time(), 3), "when": when, "gpu": counts}
            )

    def _note(self, event: Event) -> None:
        self._events.append(
            {name: value for name, value in asdict(event).items() if value is not None}
        )


def _watch_gpus(note: Callable[[Event], None]) -> "tuple[GpuWatch | None, str]":
    """Return the watch over the GPUs, or why there is none."""
    try:
        from dolly_assets.profiling.record.gpus import GpuWatch
    except ImportError:
        return None, "the package nvidia-ml-py is not installed"
    return GpuWatch(note), DRIVER_SILENT


def _find_host(container: "ControlGroup", no_device_reason: str) -> Hardware:
    import psutil

    from dolly_assets.profiling.record.devices import installed_versions

    return Hardware(
        no_device_reason=no_device_reason,
        host=platform.node(),
        cpu_count=psutil.cpu_count() or 1,
        memory_total_bytes=psutil.virtual_memory().total,
        container_cpu_limit=container.cpu_limit(),
        container_memory_limit_bytes=container.memory_limit_bytes(),
        image=os.environ.get("DOLLY_IMAGE", ""),
        versions=installed_versions(),
    )


def _stopped_before(deadline: float) -> bool:
    """Sleep until the monotonic deadline; return True as soon as SIGTERM arrives."""
    while (left := deadline - time.monotonic()) > 0:
        received = signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, left)
        if received and received.si_signo == signal.SIGTERM:
            return True
    return False


def _check_interval(interval_seconds: float) -> None:
    if not interval_seconds >= SHORTEST_INTERVAL_SECONDS or math.isinf(interval_seconds):
        raise ConfigurationError(
            f"the sampling interval is {interval_seconds:g} s: expected at least "
            f"{SHORTEST_INTERVAL_SECONDS:g} s, the rate at which drivers refresh their readings"
        )


def main() -> None:
    """Run the sampler process."""
    parser = argparse.ArgumentParser(
        prog="dolly_assets.profiling.record.sampler", description=sample.__doc__
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--interval-seconds", type=float, default=1.0)
    parser.add_argument("--watch-pid", type=int, required=True)
    parser.add_argument("--leave-out", type=int, action="append", default=[])
    arguments = parser.parse_args()
    try:
        _check_interval(arguments.interval_seconds)
    except ConfigurationError as error:
        parser.error(str(error))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sample(arguments.folder, arguments.interval_seconds, arguments.watch_pid, arguments.leave_out)


if __name__ == "__main__":
    main()
