"""Kill trainings of the demo family at random times, and measure what their profiles cover.

    python benchmarks/cut_profiles.py [--kills 10] [--seed 1]

All processes of a training are killed at once: torchrun, its ranks and the sampler. The
`interrupted_profile` that `dolly train` then publishes should cover all but the last two seconds,
and a live report should have been in the store within 30 s of the first step. All times count from
the first step. Exit code 1 if a profile is missing or lacks more than that.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil

from dolly_assets.profiling.analysis.summary import ReportSummary
from dolly_assets.profiling.series.steplog import read_steps, step_files
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.worker.profiles.profile_publisher import summary_of

T = TypeVar("T")

DOLLY = [str(Path(sys.executable).parent / "dolly")]
MOST_SECONDS_LOST = 2.0
MOST_SECONDS_TO_LIVE = 30.0
LONGEST_SECONDS = 30.0  # from the first step to the kill
PARTS = {
    "dolly_assets.worker.torchrun",
    "dolly_assets.worker",
    "dolly_assets.profiling.record.sampler",
}


def main() -> int:
    """Print a line for each kill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        _dolly(home, 0).wait()
        print("| killed after, s | last step | missing at the end, s | live report after, s |")
        print("| --- | --- | --- | --- |")
        for _ in range(arguments.kills):
            after, step, lost, live = _kill_one(home, chance.uniform(1, LONGEST_SECONDS))
            print(
                f"| {after:.1f} | {step} | {lost:.2f} "
                f"| {'none yet' if live is None else f'{live:.1f}'} |",
                flush=True,
            )
            late = after > MOST_SECONDS_TO_LIVE if live is None else live > MOST_SECONDS_TO_LIVE
            failed |= lost > MOST_SECONDS_LOST or late
    return int(failed)


def _kill_one(home: Path, seconds: float) -> tuple[float, int, float, float | None]:
    """Train, kill, and return seconds to the kill, last step, seconds lost, seconds to live."""
    known = len(_cut(home))
    train = _dolly(home, 3)
    seen = set((home / "scratch").glob("**/samples.jsonl"))
    profile = _wait(
        lambda: _with_a_step(set((home / "scratch").glob("**/samples.jsonl")) - seen), train
    )
    first_step = read_steps(profile)["started_at"].to_pylist()[0]
    live, live_at = set((home / "store" / "live").glob("**/state.json")), None
    while time.time() < first_step + seconds:
        if live_at is None and set((home / "store" / "live").glob("**/state.json")) - live:
            live_at = time.time()
        time.sleep(0.05)
    killed_at = time.time()
    for process in _training(train.pid):
        process.kill()
    train.wait()
    artifacts = _cut(home)
    assert len(artifacts) > known, "the training left no profile"
    summary = max(artifacts, key=lambda summary: summary.ended_at)
    assert summary.steps
    lost = killed_at - summary.ended_at
    return killed_at - first_step, summary.steps.last_step, lost, live_at and live_at - first_step


def _with_a_step(found: set[Path]) -> Path | None:
    return next(
        (
            path.parent
            for path in found
            if step_files(path.parent) and read_steps(path.parent).num_rows
        ),
        None,
    )


def _wait(condition: Callable[[], T | None], train: subprocess.Popen[bytes]) -> T:
    while not (found := condition()):
        assert train.poll() is None, "the training ended by itself"
        time.sleep(0.05)
    return found


def _training(pid: int) -> Iterator[psutil.Process]:
    """Torchrun, its ranks and their sampler; not whoever launched them."""
    for process in psutil.Process(pid).children(recursive=True):
        if PARTS & set(process.cmdline()):
            yield process


def _cut(home: Path) -> list[ReportSummary]:
    store = ArtifactStore(str(home / "store"), home / "cache")
    found = [
        item
        for epoch in (1, 2, 3)
        for item in store.history(f"demo/interrupted_profile/demo/{epoch:02d}")
    ]
    return [summary_of(item) for item in found]


def _dolly(home: Path, epochs: int) -> subprocess.Popen[bytes]:
    """`dolly train` to that epoch, from nothing; 0 prepares what a training needs."""
    chosen = ["--epochs", f"1-{epochs}", "--retrain"] if epochs else ["--epochs", "0"]
    variables = {**os.environ, "DOLLY_HOME": str(home), "DAGSTER_HOME": ""}
    with (home / "train.log").open("ab") as log:
        command = [*DOLLY, "train", "--model", "demo", "--dataset", "demo", *chosen]
        return subprocess.Popen(command, env=variables, stdout=log, stderr=log)


if __name__ == "__main__":
    sys.exit(main())
