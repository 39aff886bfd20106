"""The inbox sensor, tick by tick, as the daemon would evaluate it; the inbox is a real folder."""

import os
from pathlib import Path

import dagster as dg
import pytest
from dagster import build_sensor_context

from dolly_assets.assets.resources import StoreResource
from dolly_assets.automation.alerts import AlertsResource
from dolly_assets.automation.inbox_sensor import PER_TICK, build_inbox_sensor
from dolly_assets.datasets.catalogue import DatasetConfig

LINE = '{"instruction": "Name a colour.", "response": "Blue."}\n'


class Watched:
    """An inbox and the sensor that watches it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "inbox"
        self.folder.mkdir()
        self._store = StoreResource(
            url=str(folder / "store"), cache_dir=str(folder / "cache"), inbox_url=str(self.folder)
        )
        declared = DatasetConfig(name="declared", source="builtin:demo")
        self._sensor = build_inbox_sensor([declared], is_on=False)
        self.cursor: str | None = None
        self.skipped = ""

    def put(self, name: str, text: str = LINE) -> None:
        (self.folder / name).write_text(text)

    def tick(self, *, is_killed: bool = False) -> dict[str, str]:
        """Requested runs: dataset -> run key. A tick that is killed leaves the cursor as it was."""
        with (
            dg.DagsterInstance.ephemeral() as instance,
            build_sensor_context(
                instance=instance,
                cursor=self.cursor,
                resources={"store": self._store, "alerts": AlertsResource()},
            ) as context,
        ):
            result = self._sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.skipped = str(result.skip_reason.skip_message) if isinstance(result.skip_reason, dg.SkipReason) else ""
        if not is_killed:
            self.cursor = result.cursor
        requests = result.run_requests or []
        added = [key for request in result.dynamic_partitions_requests or [] for key in request.partition_keys]
        assert sorted(added) == sorted(str(request.partition_key) for request in requests)
        return {str(request.partition_key): str(request.run_key) for request in requests}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_dataset_is_taken_once_it_holds_still(watched: Watched) -> None:
    watched.put("one.jsonl")
    assert not watched.tick()
    watched.put("one.jsonl", LINE * 2)
    assert not watched.tick(), "it has grown since the last look"
    assert set(watched.tick()) == {"one"}
    assert not watched.tick()


def test_a_marker_takes_it_at_once(watched: Watched) -> None:
    watched.put("one.jsonl")
    watched.put("one.done", "")
    assert set(watched.tick()) == {"one"}


def test_a_changed_file_is_a_new_version_and_the_same_one_is_not(watched: Watched) -> None:
    watched.put("one.jsonl")
    watched.tick()
    first = watched.tick()
    watched.put("one.jsonl", LINE * 3)
    watched.tick()
    second = watched.tick()
    assert set(first) == set(second) == {"one"}
    assert first != second


def test_a_tick_that_was_killed_asks_for_the_same_runs_again(watched: Watched) -> None:
    watched.put("one.jsonl")
    watched.tick()
    assert watched.tick(is_killed=True) == watched.tick()


def test_what_cannot_be_taken_is_told_once_and_left_where_it_is(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.put("two words.jsonl")
    watched.put("declared.jsonl")
    for _ in range(3):
        assert not watched.tick()
    told = [record.getMessage() for record in caplog.records if "dataset_refused" in record.getMessage()]
    assert len(told) == 2
    assert "the name is taken by builtin:demo" in "".join(told)
    assert "2 refused" in watched.skipped
    assert len(list(watched.folder.iterdir())) == 2


def test_more_than_a_tick_can_take_are_taken_by_the_next_ones(watched: Watched) -> None:
    names = {f"d{number}" for number in range(PER_TICK + 20)}
    for name in names:
        watched.put(f"{name}.jsonl")
    watched.tick()
    first, second = watched.tick(), watched.tick()
    assert len(first) == PER_TICK
    assert first.keys() | second.keys() == names
    assert not first.keys() & second.keys()


def test_a_file_that_is_put_back_as_it_was_is_a_new_version_too(watched: Watched) -> None:
    keys = []
    for number, text in enumerate((LINE, LINE * 2, LINE)):
        watched.put("one.jsonl", text)
        os.utime(watched.folder / "one.jsonl", (number, number))
        watched.tick()
        keys.append(watched.tick()["one"])
    assert len(set(keys)) == 3


def test_a_card_that_was_put_right_lets_its_dataset_in(watched: Watched) -> None:
    watched.put("one.jsonl")
    watched.put("one.yaml", "licence: mit\n")
    watched.tick()
    assert not watched.tick()
    assert "1 refused" in watched.skipped
    watched.put("one.yaml", "license: mit\n")
    watched.tick()
    assert set(watched.tick()) == {"one"}
