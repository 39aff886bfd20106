"""The sensor that deletes Jobs of the cluster whose run is over.

No run would record what such a Job trains, and it occupies GPUs. Knows Jobs and runs, not what a
Job does.
"""

import time
from pathlib import Path

import dagster as dg

from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.dagster_support.run_context import ROOT_RUN_TAG
from dolly_assets.dagster_support.seams import instance_id
from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.job import (
    DEPLOYMENT,
    INSTANCE,
    ROOT_RUN,
    RUN,
    deployment_of,
)
from dolly_assets.launchers.kubernetes.pods import Job, ending
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings


@dg.sensor(
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Deletes Jobs of the cluster whose run is over and which no re-execution monitors.",
)
def orphaned_jobs(
    context: dg.SensorEvaluationContext, store: StoreResource, worker: WorkerResource
) -> dg.SkipReason | None:
    """Check the Jobs on this store, and delete those without a running owner."""
    assert worker.kubernetes_file
    settings = KubernetesSettings.read(Path(worker.kubernetes_file))
    api = Api(settings.namespace, settings.context)
    ended, here = [], instance_id(context.instance)
    for job in api.jobs({DEPLOYMENT: deployment_of(store.url)}):
        if ending(job) or job.metadata.deletion_timestamp:
            continue
        if job.metadata.labels.get(INSTANCE, here) not in (here, ""):
            continue  # of another deployment on the same store, whose runs are not known here
        if not _has_owner(context.instance, job, 60 * settings.orphan_minutes):
            api.delete_job(job.metadata.name)
            ended.append(job.metadata.name)
            context.log.warning(f"deleted Job {job.metadata.name}: its run is over")
    return dg.SkipReason(f"deleted {', '.join(ended)}" if ended else "every Job has an owner")


def _has_owner(instance: dg.DagsterInstance, job: Job, patience_seconds: float) -> bool:
    """Whether a run monitors a Job, is about to, or ended only just now."""
    labels = job.metadata.labels
    retries = instance.get_runs(dg.RunsFilter(tags={ROOT_RUN_TAG: labels[ROOT_RUN]}))
    if any(not run.is_finished for run in retries):
        return True
    record = instance.get_run_record_by_id(labels[RUN])
    if record is None:
        return time.time() - job.metadata.creation_timestamp.timestamp() < patience_seconds
    if not record.dagster_run.is_finished:
        return True
    return record.end_time is not None and time.time() - record.end_time < patience_seconds
