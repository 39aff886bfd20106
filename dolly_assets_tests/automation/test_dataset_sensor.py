"""The sensor that makes datasets partitions, tick by tick, as the daemon would evaluate it."""

from pathlib import Path

import dagster as dg
import pytest

from dolly_assets.automation.dataset_sensor import build_dataset_sensor
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.storage.object_store import ObjectStore

DECLARED = [DatasetConfig(name=name, source="builtin:demo") for name in ("one", "two")]


@pytest.fixture
def store(tmp_path: Path) -> StoreResource:
    return StoreResource(url=str(tmp_path / "store"), cache_dir=str(tmp_path / "cache"))


def tick(instance: dg.DagsterInstance, store: StoreResource) -> list[str]:
    """Evaluates the sensor, does what it requests, and returns the partitions it registered."""
    sensor = build_dataset_sensor(DECLARED)
    with dg.build_sensor_context(instance=instance, resources={"store": store}) as context:
        data = sensor.evaluate_tick(context)
    assert not data.run_requests
    names = [key for each in data.dynamic_partitions_requests or [] for key in each.partition_keys]
    instance.add_dynamic_partitions(str(DATASETS.name), names)
    return names


def test_declared_and_added_datasets_become_partitions_once(store: StoreResource) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(DATASETS.name), ["one"])
        assert tick(instance, store) == ["two"]
        assert tick(instance, store) == []
        Catalogue(ObjectStore(store.url), []).add(DatasetConfig(name="new", source="builtin:demo"))
        assert tick(instance, store) == ["new"]


def test_it_is_always_on() -> None:
    sensor = build_dataset_sensor(DECLARED)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
