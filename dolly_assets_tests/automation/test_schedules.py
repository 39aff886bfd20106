"""The schedules that look at sources again, evaluated as the daemon would."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from dolly_assets.assets.raw_dataset import build_raw_dataset
from dolly_assets.automation.schedules import build_schedules
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.storage.io_manager import ArtifactIOManager
from dolly_assets.storage.object_store import ObjectStore

pytestmark = pytest.mark.slow

DAILY = "0 5 * * *"
DECLARED = [
    DatasetConfig(name="by_default", source="builtin:demo"),
    DatasetConfig(name="daily", source="builtin:demo", schedule=DAILY),
    DatasetConfig(name="never", source="builtin:demo", schedule=None),
    DatasetConfig(name="unused", source="builtin:demo"),
]


class Ticked:
    """Schedules over a catalogue, all of whose datasets are partitions and some materialized."""

    def __init__(self, folder: Path, used: list[str]) -> None:
        self._store = StoreResource(url=str(folder / "store"), cache_dir=str(folder / "cache"))
        Catalogue(ObjectStore(str(folder / "store")), []).add(
            DatasetConfig(name="added", source="builtin:demo")
        )
        self.schedules = {
            schedule.name: schedule for schedule in build_schedules(DECLARED, is_on=False)
        }
        io_manager = ArtifactIOManager(url=self._store.url, cache_dir=self._store.cache_dir)
        resources = {"store": self._store, "io_manager": io_manager}
        self._location = dg.Definitions(
            assets=[build_raw_dataset(DECLARED)],
            schedules=list(self.schedules.values()),
            resources=resources,
        )
        self._used, self._folder = used, folder

    def tick(self, name: str, at: datetime) -> dict[str, str]:
        """Requested runs: dataset -> run key."""
        with dg.DagsterInstance.local_temp(str(self._folder)) as instance:
            names = [*(dataset.name for dataset in DECLARED), "added"]
            instance.add_dynamic_partitions(str(DATASETS.name), names)
            for used in self._used:
                instance.report_runless_asset_event(
                    dg.AssetMaterialization("raw_dataset", partition=used)
                )
            # closed at once: a context that is collected later puts its instance back as the
            # current one
            with dg.build_schedule_context(
                instance=instance,
                scheduled_execution_time=at,
                resources={"store": self._store},
                repository_def=self._location.get_repository_def(),
            ) as context:
                data = self.schedules[name].evaluate_tick(context)
        return {
            str(request.partition_key): str(request.run_key) for request in data.run_requests or []
        }


MONDAY, TUESDAY = datetime(2026, 3, 2, 6, tzinfo=UTC), datetime(2026, 3, 3, 5, tzinfo=UTC)


@pytest.fixture
def ticked(tmp_path: Path) -> Ticked:
    return Ticked(tmp_path, ["by_default", "daily", "never", "added"])


def test_each_source_is_looked_at_when_its_schedule_says_and_weekly_by_default(
    ticked: Ticked,
) -> None:
    weekly, daily = (
        "sources_weekly",
        next(name for name in ticked.schedules if name != "sources_weekly"),
    )
    assert ticked.schedules[daily].cron_schedule == DAILY
    assert set(ticked.tick(weekly, MONDAY)) == {"by_default", "added"}
    assert set(ticked.tick(daily, TUESDAY)) == {"daily"}


def test_a_tick_that_is_made_twice_asks_for_the_same_runs(ticked: Ticked) -> None:
    assert ticked.tick("sources_weekly", MONDAY) == ticked.tick("sources_weekly", MONDAY)
    next_week = MONDAY.replace(day=9)
    assert ticked.tick("sources_weekly", MONDAY) != ticked.tick("sources_weekly", next_week)


def test_datasets_that_nobody_uses_are_left_alone(tmp_path: Path) -> None:
    assert not Ticked(tmp_path, []).tick("sources_weekly", MONDAY)
