"""Measure what the sampler costs, and what a kill loses, with eight stand-in GPUs.

    python benchmarks/sampler.py [--seconds 60] [--kills 20]

It takes one sample a second. The GPUs' library is a stand-in (dolly_assets_tests/nvml): the cost of
a real driver's calls is not included.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from dolly_assets.profiling.record.sampler import SAMPLES_FILE, Sampler
from dolly_assets.profiling.series.samples import last_sample_at
from dolly_assets_tests.nvml import scenario
from dolly_assets_tests.waiting import wait_until

ASLEEP = [sys.executable, "-c", "import time; time.sleep(3600)"]
ROUNDS, ROUND_SECONDS = 8, 4.0


def main() -> None:
    """Print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    os.environ.update(scenario("a100"))
    core_share, start_seconds, peak_mib = cost(arguments.seconds)
    print(
        f"sampler: {100 * core_share:.2f} % of a core, "
        f"{start_seconds:.2f} CPU s to start, {peak_mib:.1f} MiB at most"
    )
    without, beside = step_seconds()
    print(
        f"training step: {1000 * without:.2f} ms without, {1000 * beside:.2f} ms with the sampler"
    )
    lost = [lost_seconds() for _ in range(arguments.kills)]
    if lost:
        print(
            f"{len(lost)} kills: lost at most {max(lost):.2f} s, "
            f"median {statistics.median(lost):.2f} s"
        )
        print(f"ratio sampler.lost_by_a_kill.vs_two_seconds {max(lost) / 2:.3f}")
    print(f"ratio sampler.core_share {core_share:.5f}")
    print(f"ratio sampler.step_time_with.vs_without {beside / without:.4f}")


def cost(seconds: float) -> tuple[float, float, float]:
    """Return the share of a core, the CPU seconds until the first sample, and the largest MiB."""
    with tempfile.TemporaryDirectory() as folder, Sampler(Path(folder), 1.0) as sampler:
        wait_until(lambda: sample_count(folder) > 0)
        process = psutil.Process(sampler.pid)
        began, used = time.monotonic(), cpu_seconds(process)
        time.sleep(seconds)
        share = (cpu_seconds(process) - used) / (time.monotonic() - began)
        status = Path(f"/proc/{sampler.pid}/status").read_text()
    peak_kib = next(
        int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")
    )
    return share, used, peak_kib / 1024


def step_seconds() -> tuple[float, float]:
    """Return the median time of a training step without and with the sampler, taken in turns."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(512, 2048), torch.nn.GELU(), torch.nn.Linear(2048, 512)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    batch = torch.randn(64, 512)

    def steps() -> list[float]:
        times = []
        end = time.monotonic() + ROUND_SECONDS
        while time.monotonic() < end:
            began = time.perf_counter()
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(batch), batch).backward()
            optimizer.step()
            times.append(time.perf_counter() - began)
        return times

    steps()  # to warm up
    without: list[float] = []
    beside: list[float] = []
    for _ in range(ROUNDS):
        without += steps()
        with tempfile.TemporaryDirectory() as folder, Sampler(Path(folder), 1.0):
            wait_until(lambda folder=folder: sample_count(folder) > 0)
            beside += steps()
    return statistics.median(without), statistics.median(beside)


def lost_seconds() -> float:
    """Return the time from the last sample to a SIGKILL of the watched process and the sampler."""
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(ASLEEP) as training:
        with Sampler(Path(folder), 1.0, training.pid) as sampler:
            assert sampler.pid is not None
            wait_until(lambda: sample_count(folder) > 0)
            time.sleep(random.uniform(1.0, 3.0))
            killed_at = time.time()
            os.kill(training.pid, signal.SIGKILL)
            os.kill(sampler.pid, signal.SIGKILL)
        return killed_at - (last_sample_at(Path(folder) / SAMPLES_FILE) or 0.0)


def sample_count(folder: str) -> int:
    """Return the number of samples written so far."""
    file = Path(folder) / SAMPLES_FILE
    return file.read_bytes().count(b"\n") if file.exists() else 0


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time used so far."""
    return sum(process.cpu_times()[:2])


if __name__ == "__main__":
    main()
