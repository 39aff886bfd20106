"""Measure a report over many GPUs and many hours: build time, peak memory, and size of its page.

    python benchmarks/report.py [--gpus 64] [--hours 30] [--folder /dev/shm]

Writes a sampler's journal of `--gpus` GPUs at one sample a second and each rank's log of its steps,
builds the report in a separate process, and prints the figures beside their limits.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.record.sampler import DEVICES_FILE, SAMPLES_FILE
from dolly_assets.profiling.series.steplog import StepLog, StepRecord

START = 1_800_000_000
STEP_SECONDS = 10
SHAPES = 256  # different samples, repeated: drawing each anew would take longer than reading it
LIMITS = {"seconds": 60.0, "memory_bytes": 1e9, "html_bytes": 8e6}
BUILD = """
import json, sys, time
from pathlib import Path
from dolly_assets.profiling.report.report import build_report
folder, end = Path(sys.argv[1]), float(sys.argv[2])
began = time.perf_counter()
build_report(folder, title="benchmark", started_at=0, ended_at=end, out=folder / "report")
seconds, cpu_seconds = time.perf_counter() - began, time.process_time()
status = Path("/proc/self/status").read_text().splitlines()
peak_bytes = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "memory_bytes": peak_bytes}))
"""


def _gpu(generator: random.Random) -> dict[str, float]:
    return {
        "gpu_utilization_percent": generator.randint(85, 100),
        "memory_utilization_percent": generator.randint(30, 60),
        "memory_used_bytes": 64_000_000_000 + generator.randrange(10**9),
        "memory_reserved_bytes": 683_671_552,
        "power_watts": round(generator.uniform(300, 400), 3),
        "temperature_celsius": generator.randint(55, 75),
        "memory_temperature_celsius": generator.randint(60, 80),
        "sm_clock_mhz": 1410,
        "memory_clock_mhz": 1593,
        "throttle_reasons": generator.choice((0, 0, 4)),
        "performance_state": 0,
    }


def _lines(gpus: int, samples: int) -> Iterator[str]:
    """Journal lines; what grows with time is filled in."""
    generator = random.Random(0)
    shapes = []
    for _ in range(SHAPES):
        readings = {str(gpu): {**_gpu(generator), "energy_joules": "ENERGY"} for gpu in range(gpus)}
        host = {"cpu_percent": generator.randint(20, 60), "memory_used_bytes": 200_000_000_000}
        record = {"time_seconds": "TIME", "host": host, "gpu": readings}
        text = json.dumps(record, separators=(",", ":")).replace("%", "%%")
        shapes.append(text.replace('"TIME"', "%(time)d").replace('"ENERGY"', "%(energy).1f") + "\n")
    for second in range(samples):
        yield shapes[second % SHAPES] % {"time": START + second, "energy": 1e6 + 350.0 * second}


def _log_steps(folder: Path, ranks: int, samples: int) -> int:
    """Write a log of steps for each rank; one step in a hundred waits for data.

    Returns how many steps it is.
    """
    generator, steps = random.Random(1), samples // STEP_SECONDS
    for rank in range(ranks):
        log = StepLog(folder, rank)
        for number in range(steps):
            start, data = START + number * STEP_SECONDS, 2.0 if generator.random() < 0.01 else 0.02
            log.append(
                StepRecord(
                    step=number + 1,
                    epoch=1,
                    rank=rank,
                    started_at=start,
                    ended_at=start + STEP_SECONDS - 0.01,
                    data_seconds=data,
                    forward_seconds=2.5,
                    backward_seconds=5.0,
                    optimizer_seconds=1.0,
                    wait_seconds=STEP_SECONDS - 8.51 - data,
                    real_tokens=15_000,
                    processed_tokens=15_100,
                    labelled_tokens=5_000,
                    flops=5e14,
                    peak_rank_memory_bytes=64_000_000_000,
                )
            )
    return steps


def main() -> None:
    """Write the recordings, build the reports, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--hours", type=float, default=30)
    parser.add_argument(
        "--folder", type=Path, help="where the journal goes, some gigabytes; the system's default"
    )
    arguments = parser.parse_args()
    samples = math.ceil(arguments.hours * 3600)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        devices = tuple(
            Device(gpu, "NVIDIA A100-SXM4-80GB", memory_total_bytes=80 * 2**30)
            for gpu in range(arguments.gpus)
        )
        Hardware(devices=devices, host="benchmark", cpu_count=64, memory_total_bytes=2**40).write(
            folder / DEVICES_FILE
        )
        began = time.perf_counter()
        with (folder / SAMPLES_FILE).open("w") as journal:
            journal.writelines(_lines(arguments.gpus, samples))
        steps = _log_steps(folder, arguments.gpus, samples)
        size = (folder / SAMPLES_FILE).stat().st_size
        print(
            f"journal: {arguments.gpus} GPUs, {samples:,} samples, {size / 1e9:.2f} GB, "
            f"{steps:,} steps of each rank, "
            f"written in {time.perf_counter() - began:.0f} s"
        )
        command = [sys.executable, "-c", BUILD, str(folder), str(START + samples)]
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(process.stdout.splitlines()[-1])
        figures["html_bytes"] = (folder / "report" / "report.html").stat().st_size
        parquet = (folder / "report" / "samples.parquet").stat().st_size
    print(
        f"report: {figures['seconds']:.1f} s ({figures['cpu_seconds']:.1f} s of CPU, imports too), "
        f"{figures['memory_bytes'] / 1e6:,.0f} MB of memory, "
        f"page {figures['html_bytes'] / 1e6:.2f} MB, "
        f"samples.parquet {parquet / 1e6:,.0f} MB"
    )
    print(f"ratio report.seconds_of_60 {figures['seconds'] / LIMITS['seconds']:.3f}")
    print(f"ratio report.memory_of_1_gb {figures['memory_bytes'] / LIMITS['memory_bytes']:.3f}")
    print(f"ratio report.html_of_8_mb {figures['html_bytes'] / LIMITS['html_bytes']:.3f}")


if __name__ == "__main__":
    main()
