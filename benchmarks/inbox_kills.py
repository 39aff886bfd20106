"""Kill Dagster's daemon while it takes thousands of datasets from an inbox, and count the runs.

    python benchmarks/inbox_kills.py [--keys 10000] [--kills 50] [--seed 1]

Sensor, asset, instance (SQLite), inbox and `dagster-daemon` are real; runs are queued and never
launched. A third of the kills happen at any moment, a third just after partitions were added, and a
third between the run requests of a tick. Each key must end as one partition with one run. Exit code
1 if one is lost or doubled.
"""

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dagster as dg
from dagster._core.scheduler.instigation import (  # there is no public door to ticks
    InstigatorTick,
    TickStatus,
)

from dolly_assets.assets.raw_dataset import build_raw_dataset
from dolly_assets.automation.inbox_sensor import PER_TICK, build_inbox_sensor
from dolly_assets.components.code_location import resources
from dolly_assets.core.environment import Environment
from dolly_assets.dagster_support.partitions import DATASETS

LOCATION = ["-f", __file__, "-a", "location"]
# Nothing leaves the queue. One database for the events of all runs, as a server keeps them:
# SQLite's usual one for each run takes most of the time that a run's request takes.
DAGSTER_YAML = """\
telemetry: {{enabled: false}}
concurrency: {{runs: {{max_concurrent_runs: 0}}}}
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {{base_dir: {home}/dagster/history}}
"""
LINE = '{"instruction": "Name a colour.", "response": "Blue."}\n'
INTERVAL_SECONDS = 30  # between two ticks of the sensor
PATIENCE_SECONDS = 180  # without anything new, before the daemon counts as stuck


@dg.definitions
def location() -> dg.Definitions:
    """Return what the daemon loads: the inbox sensor and its assets, no model families."""
    return dg.Definitions(
        assets=[build_raw_dataset([])],
        sensors=[build_inbox_sensor([], is_on=True)],
        resources=resources(Environment.read()),
    )


class Watched:
    """A home with a full inbox, and the daemon that empties it."""

    def __init__(self, home: Path, keys: int) -> None:
        self.home = home
        self.names = [f"d{number:05d}" for number in range(keys)]
        (home / "inbox").mkdir()
        (home / "dagster").mkdir()
        (home / "dagster" / "dagster.yaml").write_text(DAGSTER_YAML.format(home=home))
        for name in self.names:
            (home / "inbox" / f"{name}.jsonl").write_text(LINE)
        self.instance = dg.DagsterInstance.from_config(str(home / "dagster"))
        self.instance.get_dynamic_partitions(str(DATASETS.name))  # makes the database
        self._counting = sqlite3.connect(
            f"file:{home}/dagster/history/event_log.db?mode=ro", uri=True
        )

    @property
    def _variables(self) -> dict[str, str]:
        return {
            **os.environ,
            "DAGSTER_HOME": str(self.home / "dagster"),
            "DOLLY_HOME": str(self.home),
            "PYTHONWARNINGS": "ignore",
            "DOLLY_INBOX": str(self.home / "inbox"),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start the daemon and its code server in a process group of their own."""
        with (self.home / "daemon.log").open("ab") as log:
            return subprocess.Popen(
                [Path(sys.executable).parent / "dagster-daemon", "run", *LOCATION],
                env=self._variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def partitions(self) -> int:
        """How many datasets Dagster knows; cheap, to be asked all the time."""
        return self._counting.execute("SELECT COUNT(*) FROM dynamic_partitions").fetchone()[0]

    def runs(self) -> int:
        """How many runs were requested."""
        return self.instance.get_runs_count()

    def last_tick(self) -> InstigatorTick | None:
        """Return the newest tick of the sensor."""
        states = [state for state in self.instance.all_instigator_state() if state.name == "inbox"]
        return next(
            (
                self.instance.get_ticks(item.instigator_origin_id, item.selector_id, limit=1)[0]
                for item in states
            ),
            None,
        )

    def moment(self) -> str:
        """Return what a killed daemon was doing."""
        tick = self.last_tick()
        if tick is None or tick.status != TickStatus.STARTED:
            return "between ticks"
        if tick.tick_data.reserved_run_ids:
            return "among run requests"
        return (
            "between partitions and run requests" if self.partitions() > self.runs() else "looking"
        )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        watched = Watched(Path(folder), arguments.keys)
        moments: Counter[str] = Counter()
        while moments.total() < arguments.kills:
            moments[_run_until_killed(watched, chance)] += 1
            print(
                f"{moments.total()} kills, {watched.runs()} runs: {dict(moments)}",
                file=sys.stderr,
                flush=True,
            )
        _run_to_the_end(watched)
        runs = Counter(run.tags["dagster/partition"] for run in watched.instance.get_runs())
        partitions = Counter(watched.instance.get_dynamic_partitions(str(DATASETS.name)))
    lost = sum(runs[name] == 0 or partitions[name] == 0 for name in watched.names)
    doubled = sum(runs[name] > 1 or partitions[name] > 1 for name in watched.names)
    print("| keys | kills | where they fell | partitions | runs | lost | doubled | minutes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    where = ", ".join(f"{count} {moment}" for moment, count in moments.most_common())
    print(
        f"| {arguments.keys:,} | {moments.total()} | {where} "
        f"| {partitions.total():,} | {runs.total():,} "
        f"| {lost} | {doubled} | {(time.monotonic() - began) / 60:.0f} |"
    )
    return int(bool(lost or doubled or runs.total() != arguments.keys))


def _run_until_killed(watched: Watched, chance: random.Random) -> str:
    """Run the daemon up to a chosen moment, kill it, and return where the kill fell."""
    partitions, runs = watched.partitions(), watched.runs()
    seconds, requests = chance.uniform(0, 2 * INTERVAL_SECONDS), chance.randrange(1, PER_TICK)
    kinds: dict[str, Callable[[], bool]] = {
        "any moment": lambda: False,
        "partitions added": lambda: watched.partitions() > partitions,
        "runs requested": lambda: watched.runs() >= runs + requests,
    }
    kind = chance.choice(list(kinds))
    daemon = watched.start()
    deadline = time.monotonic() + (seconds if kind == "any moment" else 3 * INTERVAL_SECONDS)
    while time.monotonic() < deadline and not kinds[kind]():
        time.sleep(0.001 if kind == "partitions added" else 0.05)
    _kill(daemon)
    return watched.moment()


def _run_to_the_end(watched: Watched) -> None:
    daemon = watched.start()
    before, deadline = watched.runs(), time.monotonic() + PATIENCE_SECONDS
    while before < len(watched.names) and time.monotonic() < deadline:
        time.sleep(1)
        if watched.runs() > before:
            before, deadline = watched.runs(), time.monotonic() + PATIENCE_SECONDS
    time.sleep(2 * INTERVAL_SECONDS)  # for runs that should not come
    _kill(daemon)


def _kill(daemon: subprocess.Popen[bytes]) -> None:
    assert daemon.poll() is None, "the daemon ended by itself: see its log"
    os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait()


if __name__ == "__main__":
    sys.exit(main())
