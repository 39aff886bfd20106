"""Dagster's part of a session: the instance, and runs in this process.

Knows runs and materializations, not which assets a command needs.
"""

import os
import socket
import warnings
from collections.abc import Sequence
from typing import Any

import dagster as dg
import psutil

from dolly_assets.components import code_location
from dolly_assets.core.environment import Environment
from dolly_assets.dagster_support.console import CONSOLE
from dolly_assets.dagster_support.run_context import PROCESS_TAG
from dolly_assets.pipeline.dagster_home import prepare_dagster_home
from dolly_assets.registry.estimate import Estimator

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def silence_previews() -> None:
    """Hide Dagster's warnings about its own features in beta and preview."""
    for category in (dg.BetaWarning, dg.PreviewWarning):
        warnings.filterwarnings("ignore", category=category)


def open_instance(environment: Environment) -> dg.DagsterInstance:
    """Return the Dagster instance, created at first use.

    Runs whose process was killed are marked as failed.
    """
    silence_previews()
    os.environ["DAGSTER_HOME"] = str(prepare_dagster_home(environment))
    instance = dg.DagsterInstance.get()
    _fail_dead_runs(instance)
    return instance


def build_job(environment: Environment, estimator: Estimator) -> dg.JobDefinition:
    """Return the job that can materialize every asset."""
    silence_previews()
    return code_location.build(environment, estimator).resolve_implicit_global_asset_job_def()


def materialize(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    keys: Sequence[Sequence[str]],
    first: str | None = None,
    last: str | None = None,
    config: dict[str, Any] | None = None,
) -> None:
    """Materialize assets in one run of this process.

    Args:
        instance: Where the run is recorded.
        job: The job that contains the assets.
        keys: The keys of the assets.
        first: The partition, or the first one of a range.
        last: The last partition of a range.
        config: Configuration of the run's ops.

    Raises:
        DollyError: The run failed with an error that the user can put right.
        KeyboardInterrupt: The run was interrupted with Ctrl-C, and its worker has exited.
    """
    partition = {RANGE_START: first, RANGE_END: last} if first and last else {}
    try:
        job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(list(key)) for key in keys],
            partition_key=None if last else first,
            tags={**partition, PROCESS_TAG: _this_process()},
            run_config={"loggers": {CONSOLE: {"config": {}}}, "ops": config or {}},
        )
    except dg.DagsterExecutionInterruptedError as error:
        raise KeyboardInterrupt from error


def _this_process() -> str:
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def _fail_dead_runs(instance: dg.DagsterInstance) -> None:
    """Mark runs as failed whose process on this machine was killed and could not report it."""
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    for run in instance.get_runs(unfinished):
        host, _, process = run.tags.get(PROCESS_TAG, "").partition(":")
        pid, _, created = process.partition(":")
        if host == socket.gethostname() and not _is_alive(int(pid), created):
            instance.report_run_failed(
                run, "the process of this run was killed; what it had published is kept"
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _is_alive(pid: int, created: str) -> bool:
    try:
        return f"{psutil.Process(pid).create_time():.2f}" == created
    except psutil.NoSuchProcess:
        return False
