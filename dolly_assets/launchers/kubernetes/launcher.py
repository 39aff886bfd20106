"""Runs workers as Jobs of a Kubernetes cluster: finds or creates a Job, follows it, stops it.

A Job outlives the process that created it. When the same work is requested again, its Job is found
by its labels and followed from there. Training itself it doesn't know.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

from dolly_assets.core.errors import TrainingError, WorkerError
from dolly_assets.launchers.base import Times
from dolly_assets.launchers.interrupts import undisturbed
from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.job import (
    DEPLOYMENT,
    ROOT_RUN,
    RUN,
    WORK,
    Owner,
    build_job,
    deployment_of,
    epochs_of,
    job_name,
    labels_of,
    work_of,
)
from dolly_assets.launchers.kubernetes.job_monitor import (
    ENDING_SECONDS,
    LOOK_SECONDS,
    ORPHAN_SECONDS,
    JobMonitor,
)
from dolly_assets.launchers.kubernetes.pods import Job, Pod, ending, has_ended
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.worker.messages import Log, Message
from dolly_assets.worker.spec import Train, WorkerSpec


@dataclasses.dataclass(frozen=True)
class KubernetesLauncher:
    """Runs the workers of one step.

    Attributes:
        settings: The deployment's settings.
        owner: The run that the Jobs work for.
        is_cancelled: Called after an interruption: whether the run was cancelled, so that its Job
            is stopped; if not, the Job keeps running.
    """

    settings: KubernetesSettings
    owner: Owner
    is_cancelled: Callable[[], bool]

    def run(self, spec: WorkerSpec, on_message: Callable[[Message | Times], None]) -> None:
        """Run the worker of a spec to its end (see `dolly_assets.launchers.base.Launcher`)."""
        api = Api(self.settings.namespace, self.settings.context)
        jobs = self._settled_jobs(api, spec, on_message)
        name, what = self._found(api, spec, jobs) or self._submitted(api, spec, on_message)
        with JobMonitor(api, self.settings, spec, name, on_message) as monitor:
            try:
                on_message(Log(text=f"Job {name} in {self.settings.namespace} {what}"))
                monitor.follow()
            except BaseException as error:
                with undisturbed():
                    if isinstance(error, Exception) or self.is_cancelled():
                        monitor.end()
                    else:
                        on_message(
                            Log(text=f"Job {name} keeps running; the next run will reattach to it")
                        )
                raise

    def _settled_jobs(
        self, api: Api, spec: WorkerSpec, on_message: Callable[[Message | Times], None]
    ) -> list[Job]:
        """Return the Jobs of this work, as soon as nothing of an earlier one is still ending.

        A Job that is being deleted, or a pod that outlives its Job, may still save the state that
        the next one starts from. `kubectl delete job` deletes the Job at once and its pods in the
        background. https://kubernetes.io/docs/concepts/architecture/garbage-collection

        Raises:
            WorkerError: One does not end in time, for example because its node is unreachable.
        """
        same_work = {DEPLOYMENT: deployment_of(spec.store_url), WORK: work_of(spec)}
        since, reported = time.monotonic(), set[str]()
        while True:
            pods, jobs = api.pods(same_work), api.jobs(same_work)  # a Job is older than its pods
            deleted = [job for job in jobs if job.metadata.deletion_timestamp]
            left = _pods_left(pods, jobs)
            if not deleted and not left:
                return jobs
            is_ending = deleted or any(pod.metadata.deletion_timestamp for pod in left)
            limit = max(map(_grace_seconds, [*deleted, *left])) + ENDING_SECONDS
            if time.monotonic() - since > (limit if is_ending else ORPHAN_SECONDS):
                raise WorkerError(_does_not_end(deleted, left, limit))
            names = [f"Job {job.metadata.name}" for job in deleted]
            names += [f"pod {pod.metadata.name}" for pod in left]
            for name in [name for name in names if name not in reported]:
                text = f"waiting for {name} to finish saving the state this run resumes from"
                on_message(Log(text=text))
                reported.add(name)
            time.sleep(LOOK_SECONDS)

    def _submitted(
        self, api: Api, spec: WorkerSpec, on_message: Callable[[Message | Times], None]
    ) -> tuple[str, str]:
        job = build_job(spec, self.settings, self.owner)
        is_new = api.create_job(job, lambda text: on_message(Log(text=text)))
        return job_name(spec, self.owner), "created" if is_new else "already exists"

    def _found(self, api: Api, spec: WorkerSpec, jobs: Sequence[Job]) -> tuple[str, str] | None:
        """Return the Job that does this work, or has done it for an earlier attempt of this run.

        Returns:
            Its name, and a phrase for the log; None if there is no such Job.

        Raises:
            TrainingError: A Job is training other epochs of the same training.
        """
        for job in jobs:
            name, end = job.metadata.name, ending(job)
            is_of_this_run = job.metadata.labels[ROOT_RUN] == self.owner.root_run_id
            if end == "Failed" or (end and not is_of_this_run):
                continue
            if isinstance(spec.task, Train) and not set(spec.task.epochs) <= set(epochs_of(job)):
                if end:
                    continue
                raise TrainingError(
                    f"Job {name} is training other epochs of {spec.family.name} on "
                    f"{spec.task.dataset}: wait until it has ended, or delete it"
                )
            if not end and job.metadata.labels[RUN] != self.owner.run_id:
                api.label_job(name, labels_of(self.owner))
            return name, "has already done this work" if end else "is already doing this work"
        return None


def _pods_left(pods: Sequence[Pod], jobs: Sequence[Job]) -> list[Pod]:
    """Return the pods that have not ended although their Job has, or is gone."""
    alive = {job.metadata.uid for job in jobs if not ending(job)}
    return [
        pod
        for pod in pods
        if not has_ended(pod)
        and not any(owner.uid in alive for owner in pod.metadata.owner_references or [])
    ]


def _grace_seconds(item: Job | Pod) -> float:
    """Return how long a Job's pods, or a pod, may take to stop."""
    template = getattr(item.spec, "template", None)
    return (template or item).spec.termination_grace_period_seconds or 30


def _does_not_end(jobs: Sequence[Job], pods: Sequence[Pod], seconds: float) -> str:
    """Return what is still there of an earlier Job, and what to do."""
    if not pods:
        return (
            f"Job {jobs[0].metadata.name} was deleted and still exists after {seconds:.0f} s: "
            "check its pods and their nodes, then run again"
        )
    name, node = pods[0].metadata.name, pods[0].spec.node_name
    if not pods[0].metadata.deletion_timestamp:  # kubectl delete job --cascade=orphan
        return (
            f"pod {name} still runs although its Job is gone: delete it (`kubectl delete pod "
            f"{name}`), then run again"
        )
    return (
        f"pod {name} was deleted and still exists after {seconds:.0f} s: check its node {node}, "
        "then run again"
    )
