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
    work_of,
)
from dolly_assets.launchers.kubernetes.job_monitor import ENDING_SECONDS, LOOK_SECONDS, JobMonitor
from dolly_assets.launchers.kubernetes.pods import Job, ending
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
        name, what = self._found(api, spec, jobs) or self._submitted(api, spec)
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
        """Return the Jobs of this work, as soon as none of them is being deleted.

        A Job that is being deleted may still save the state that the next one starts from.

        Raises:
            WorkerError: A Job is not deleted in time, for example because its node is unreachable.
        """
        same_work = {DEPLOYMENT: deployment_of(spec.store_url), WORK: work_of(spec)}
        since, reported = time.monotonic(), set[str]()
        while True:
            jobs = api.jobs(same_work)
            deleted = [job for job in jobs if job.metadata.deletion_timestamp]
            if not deleted:
                return jobs
            for job in deleted:
                name = job.metadata.name
                grace_seconds = job.spec.template.spec.termination_grace_period_seconds or 30
                if time.monotonic() - since > grace_seconds + ENDING_SECONDS:
                    raise WorkerError(
                        f"Job {name} was deleted and still exists after "
                        f"{grace_seconds + ENDING_SECONDS:.0f} s: check its pods and their nodes, "
                        "then run again"
                    )
                if name not in reported:
                    on_message(
                        Log(
                            text=f"waiting for Job {name} to finish saving the state this run "
                            "resumes from"
                        )
                    )
                    reported.add(name)
            time.sleep(LOOK_SECONDS)

    def _submitted(self, api: Api, spec: WorkerSpec) -> tuple[str, str]:
        is_new = api.create_job(build_job(spec, self.settings, self.owner))
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
                api.label_job(name, {RUN: self.owner.run_id, ROOT_RUN: self.owner.root_run_id})
            return name, "has already done this work" if end else "is already doing this work"
        return None
