"""The sampler as a real process, watching real processes on this machine."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.record.sampler import DEVICES_FILE, SAMPLES_FILE, Sampler
from dolly_assets.profiling.series.samples import Samples
from dolly_assets_tests.profiling.journals import read_samples
from dolly_assets_tests.waiting import wait_until

pytestmark = pytest.mark.slow

BUSY = [sys.executable, "-c", "while True: sum(range(10_000))"]
ASLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


def _samples(folder: Path) -> Samples:
    return read_samples(folder / SAMPLES_FILE)


def test_a_busy_process_is_seen_busy(tmp_path: Path) -> None:
    with _running(BUSY) as busy, Sampler(tmp_path, 0.1, busy.pid) as sampler:
        wait_until(lambda: len(_samples(tmp_path)) >= 8)
        assert sampler.is_alive
    assert not sampler.is_alive
    samples = _samples(tmp_path)
    assert np.nanmax(samples.series["process.cpu_percent"]) > 10
    assert (samples.series["process.memory_bytes"] > 2**20).all()
    assert (np.diff(samples.time_seconds) > 0).all()
    assert Hardware.load(tmp_path / DEVICES_FILE).cpu_count == os.cpu_count()


def test_killed_sampler_loses_no_line_and_its_torn_end_costs_no_later_one(tmp_path: Path) -> None:
    with Sampler(tmp_path, 0.1) as sampler:
        wait_until(lambda: len(_samples(tmp_path)) >= 5)
        assert sampler.pid is not None
        os.kill(sampler.pid, signal.SIGKILL)
        wait_until(lambda: not sampler.is_alive)
    path = tmp_path / SAMPLES_FILE
    lines = path.read_bytes().splitlines()
    assert all("host" in json.loads(line) for line in lines)

    path.write_bytes(path.read_bytes()[:-7])  # as if the kill had hit in the middle of the write
    assert len(_samples(tmp_path)) == len(lines) - 1
    with Sampler(tmp_path, 0.1):
        wait_until(lambda: len(_samples(tmp_path)) >= len(lines) + 2)
    assert (
        path.read_bytes().count(b"\n") == len(_samples(tmp_path)) + 1
    )  # the torn line alone is lost


@pytest.mark.parametrize("victims", ["training", "training and sampler"])
def test_a_kill_at_any_moment_costs_at_most_two_seconds(tmp_path: Path, victims: str) -> None:
    """As of a machine out of memory, or a container that is ended with all that is in it."""
    with _running(BUSY) as training, Sampler(tmp_path, 0.5, training.pid) as sampler:
        assert sampler.pid is not None
        wait_until(lambda: len(_samples(tmp_path)) >= 1)
        time.sleep(random.uniform(0.5, 1.5))  # the moment that nobody chose
        killed_at = time.time()
        for pid in (training.pid, sampler.pid)[: 1 + (victims != "training")]:
            os.kill(pid, signal.SIGKILL)
    times = _samples(tmp_path).time_seconds
    assert times[-1] > killed_at - 2
    assert np.diff(times).max() < 2


def test_it_ends_when_the_watched_process_is_gone(tmp_path: Path) -> None:
    with _running(ASLEEP) as asleep, Sampler(tmp_path, 0.1, asleep.pid) as sampler:
        wait_until(lambda: len(_samples(tmp_path)) >= 1)
        asleep.kill()  # unreaped until the block ends: a zombie counts as gone
        wait_until(lambda: not sampler.is_alive)


def test_sigterm_ends_it_cleanly_between_ticks_and_ctrl_c_does_not(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "dolly_assets.profiling.record.sampler",
        "--folder",
        str(tmp_path),
    ]
    command += ["--interval-seconds", "3600", "--watch-pid", str(os.getpid())]
    with _running(command) as process:
        wait_until(lambda: (tmp_path / SAMPLES_FILE).exists())
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("interval_seconds", [0.0, 0.01, float("nan"), float("inf")])
def test_an_interval_too_short_is_refused(tmp_path: Path, interval_seconds: float) -> None:
    with pytest.raises(ConfigurationError, match=r"at least 0\.1 s"):
        Sampler(tmp_path, interval_seconds)


def test_the_sampler_imports_nothing_heavy() -> None:
    code = "import sys, dolly_assets.profiling.record.sampler; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "numpy", "pyarrow", "altair", "pydantic"} & set(
        run.stdout.split()
    )
