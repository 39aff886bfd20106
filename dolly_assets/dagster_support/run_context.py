"""A step and its run in other terms: the owner of a Job, whether it is cancelled, who made what."""

import getpass
import json

import dagster as dg

from dolly_assets import __version__
from dolly_assets.core.code_digest import code_digest
from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.dagster_support.seams import instance_id
from dolly_assets.launchers.base import Times
from dolly_assets.launchers.kubernetes.job import Owner
from dolly_assets.registry.kinds import MODEL_CHECKPOINT
from dolly_assets.worker.spec import Train, WorkerSpec, has_task

CONFIG_TAG = "dagster-k8s/config"
ROOT_RUN_TAG = "dagster/root_run_id"
# Marks runs that live in the process of a command; with this prefix, the UI doesn't show the tag.
PROCESS_TAG = ".dagster/dolly_process"


def made_by(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Return who makes an artifact, for its manifest: the run and the code."""
    return {"run_id": context.run_id, "dolly_assets": __version__, "code": code_digest()}


def attempts_of(context: dg.AssetExecutionContext) -> frozenset[str]:
    """Return the ids of the run and of those that it executes again, directly or not."""
    root = context.run.root_run_id or context.run_id
    runs = context.instance.get_runs(dg.RunsFilter(tags={ROOT_RUN_TAG: root}))
    return frozenset({root, context.run_id, *(run.run_id for run in runs)})


def user_of(context: dg.AssetExecutionContext) -> str:
    """Return who started the run: the user that the run names, else this process's."""
    run = context.instance.get_run_by_id(context.run_id)
    return (run.tags.get("user") if run else None) or getpass.getuser()


def owner_of(context: dg.AssetExecutionContext) -> Owner:
    """Return the step as the owner of its Job."""
    config = context.op_def.tags.get(CONFIG_TAG, {})
    return Owner(
        run_id=context.run_id,
        root_run_id=context.run.root_run_id or context.run_id,
        step=context.op_def.name,
        instance=instance_id(context.instance),
        attempt=context.op_execution_context.retry_number + 1,
        labels={"step": context.op_def.name},
        config=json.loads(config) if isinstance(config, str) else config,
    )


def is_cancelled(context: dg.AssetExecutionContext) -> bool:
    """Whether a user ends the run; its process may also be stopped because its machine is lost."""
    run = context.instance.get_run_by_id(context.run_id)
    if run is None or PROCESS_TAG in run.tags:
        return True
    return run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


def observe_times(context: dg.AssetExecutionContext, spec: WorkerSpec, times: Times) -> None:
    """Log how long a Job waited and ran, and record it with the asset that it trained."""
    context.log.info(
        f"Job {times.job} waited for {times.waiting_seconds:.0f} s and ran for "
        f"{times.running_seconds:.0f} s, with {times.restarts} restarts"
    )
    if has_task(spec, Train):
        context.log_event(
            dg.AssetObservation(
                dg.AssetKey(MODEL_CHECKPOINT.key(spec.family.name)),
                partition=partition_key(spec.task.dataset, spec.task.epochs[0]),
                metadata={
                    "job": times.job,
                    "waiting_seconds": times.waiting_seconds,
                    "running_seconds": times.running_seconds,
                    "restarts": times.restarts,
                },
            )
        )
