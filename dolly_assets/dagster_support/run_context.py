"""What a step and its run are to a worker in a cluster: who owns it, whether it is still wanted, what it took."""

import json

import dagster as dg

from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.launchers.base import Times
from dolly_assets.launchers.kubernetes.job import Owner
from dolly_assets.registry.kinds import MODEL_CHECKPOINT
from dolly_assets.worker.spec import Train, WorkerSpec

CONFIG_TAG = "dagster-k8s/config"
# Of runs that live in the process of a command; with this prefix, it is not shown among a run's
# tags.
PROCESS_TAG = ".dagster/dolly_process"


def owner_of(context: dg.AssetExecutionContext) -> Owner:
    """The step as the owner of its Job."""
    config = context.op_def.tags.get(CONFIG_TAG, {})
    return Owner(
        run_id=context.run_id,
        root_run_id=context.run.root_run_id or context.run_id,
        step=context.op_def.name,
        attempt=context.op_execution_context.retry_number + 1,
        labels={"step": context.op_def.name},
        config=json.loads(config) if isinstance(config, str) else config,
    )


def is_cancelled(context: dg.AssetExecutionContext) -> bool:
    """Whether somebody ends the run; its process may also be told to go because its machine goes."""
    run = context.instance.get_run_by_id(context.run_id)
    if run is None or PROCESS_TAG in run.tags:
        return True
    return run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


def observe_times(context: dg.AssetExecutionContext, spec: WorkerSpec, times: Times) -> None:
    """Says beside the asset what the cluster took: the time of waiting apart from that of training."""
    context.log.info(
        f"Job {times.job} waited for {times.waiting_seconds:.0f} s and ran for {times.running_seconds:.0f} s, "
        f"with {times.restarts} restarts"
    )
    if isinstance(spec.task, Train):
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
