"""Schedules that check sources for changes: one for each cron expression that a dataset names.

A dataset that was never materialized is in no use, and is not read. A run requests the version of
the source before it reads anything; if the version is unchanged, the materialization has the same
data version, and no other asset is updated.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.dagster_support.seams import AssetJob
from dolly_assets.datasets.config import WEEKLY, DatasetConfig
from dolly_assets.registry.kinds import RAW_DATASET

_RAW_DATASET_KEY = dg.AssetKey(RAW_DATASET.name)


def build_schedules(
    declared: Sequence[DatasetConfig], *, is_on: bool
) -> list[dg.ScheduleDefinition]:
    """Return a schedule `sources_…` for each cron expression.

    Datasets that were added by hand are checked weekly.
    """
    crons = sorted({WEEKLY, *(dataset.schedule for dataset in declared if dataset.schedule)})
    job = dg.define_asset_job("refresh_sources", dg.AssetSelection.assets("raw_dataset"))
    return [_schedule(cron, job, declared, is_on=is_on) for cron in crons]


def _schedule(
    cron: str, job: AssetJob, declared: Sequence[DatasetConfig], *, is_on: bool
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="sources_weekly" if cron == WEEKLY else f"sources_{_as_name(cron)}",
        cron_schedule=cron,
        job=job,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if is_on
        else dg.DefaultScheduleStatus.STOPPED,
        description="Checks the sources of the datasets with this schedule for changes.",
    )
    def sources(
        context: dg.ScheduleEvaluationContext, store: StoreResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        used = context.instance.get_materialized_partitions(_RAW_DATASET_KEY).intersection(
            context.instance.get_dynamic_partitions(str(DATASETS.name))
        )
        kept = store.catalogue(declared).kept().values()
        due = sorted(used.intersection(item.name for item in kept if item.schedule == cron))
        at = context.scheduled_execution_time.isoformat()
        for name in due:
            yield dg.RunRequest(run_key=f"{name}:{at}", partition_key=name)
        if not due:
            yield dg.SkipReason("no dataset in use has this schedule")

    return sources


def _as_name(cron: str) -> str:
    words = {"*": "any", "/": "_per_", "-": "_to_", ",": "_and_", " ": "_"}
    return "".join(words.get(char, char) for char in cron)
