"""The sensor that makes every known dataset a partition, so that it can be chosen in the UI.

Declared and added datasets become partitions here, in the instance whose daemon runs; those of the
inbox when they are complete, by its own sensor. It starts no run, so it is always on.
"""

from collections.abc import Sequence

import dagster as dg

from dolly_assets.core.errors import some_of
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.datasets.config import DatasetConfig


def build_dataset_sensor(declared: Sequence[DatasetConfig]) -> dg.SensorDefinition:
    """Return the sensor `datasets`."""

    @dg.sensor(
        name="datasets",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Registers declared and added datasets as partitions. It starts no run.",
    )
    def datasets(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
        known = set(context.instance.get_dynamic_partitions(str(DATASETS.name)))
        new = sorted(store.catalogue(declared).kept().keys() - known)
        return dg.SensorResult(
            dynamic_partitions_requests=[DATASETS.build_add_request(new)] if new else [],
            skip_reason=dg.SkipReason(
                f"registered {some_of(new)}" if new else "every dataset is a partition"
            ),
        )

    return datasets
