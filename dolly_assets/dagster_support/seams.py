"""Private interfaces of Dagster that we use, by version.

Their names are in `dagster._core`, so an upgrade may move them. The rest of the package calls these
functions only, and a test checks each one.
"""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.runs import SqlRunStorage

CHECKED_VERSION = "1.13"
"""What the functions below were written against."""

AssetJob = UnresolvedAssetJobDefinition
"""What `dagster.define_asset_job` returns; it has no public name."""


def latest_check_evaluation(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, partition_key: str
) -> dg.AssetCheckEvaluation | None:
    """Return the last evaluation of a check for one partition; None before the first.

    No public function finds the evaluations of a partition.
    """
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [key], PartitionKeyFilter(key=partition_key)
    )
    record = records.get(key)
    event = record.event.dagster_event if record and record.event else None
    return event.asset_check_evaluation_data if event else None


def instance_id(instance: dg.DagsterInstance) -> str:
    """Return what no other Dagster instance has: the id of its database of runs.

    It is empty if runs are in no SQL database. No public function returns it.
    """
    runs = instance.run_storage
    return runs.get_run_storage_id() if isinstance(runs, SqlRunStorage) else ""
