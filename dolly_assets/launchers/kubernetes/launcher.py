"""Runs workers as Jobs of a Kubernetes cluster: finds or makes the Job, follows it, and ends it when it should end.

The Job outlives whoever made it. The same work, asked for again, is found by its labels and
followed from there.
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
        is_cancelled: Whether an interruption means that nobody wants the work any more; if not, the
            Job goes on.
    """

    settings: KubernetesSettings
    owner: Owner
    is_cancelled: Callable[[], bool]

    def run(self, spec: WorkerSpec, on_message: Callable[[Message | Times], None]) -> None:
        """Runs the worker of a spec to its end (see `dolly_assets.launchers.base.Launcher`)."""
        api = Api(self.settings.namespace, self.settings.context)
        jobs = self._settled_jobs(api, spec, on_message)
        name, what = self._found(api, spec, jobs) or self._submitted(api, spec)
        with JobMonitor(api, self.settings, spec, name, on_message) as follower:
            try:
                on_message(Log(text=f"Job {name} in {self.settings.namespace} {what}"))
                follower.follow()
            except BaseException as error:
                with undisturbed():
                    if isinstance(error, Exception) or self.is_cancelled():
                        follower.end()
                    else:
                        on_message(Log(text=f"Job {name} goes on; the same again finds it"))
                raise

    def _settled_jobs(
        self, api: Api, spec: WorkerSpec, on_message: Callable[[Message | Times], None]
    ) -> list[Job]:
        """The Jobs of this work, when none is being deleted: what such a one still saves, the next begins from.

        Raises:
            WorkerError: A Job does not go, as when its node does not answer.
        """
        same_work = {DEPLOYMENT: deployment_of(spec.store_url), WORK: work_of(spec)}
        since, told = time.monotonic(), set[str]()
        while True:
            jobs = api.jobs(same_work)
            leaving = [job for job in jobs if job.metadata.deletion_timestamp]
            if not leaving:
                return jobs
            for job in leaving:
                name = job.metadata.name
                grace_seconds = job.spec.template.spec.termination_grace_period_seconds or 30
                if time.monotonic() - since > grace_seconds + ENDING_SECONDS:
                    raise WorkerError(
                        f"Job {name} was ended, and is still there after {grace_seconds + ENDING_SECONDS:.0f} s: look "
                        "at its pods and their nodes, then ask again"
                    )
                if name not in told:
                    on_message(
                        Log(
                            text=f"waits: Job {name}, which was ended, still saves what this begins from"
                        )
                    )
                    told.add(name)
            time.sleep(LOOK_SECONDS)

    def _submitted(self, api: Api, spec: WorkerSpec) -> tuple[str, str]:
        is_new = api.create_job(build_job(spec, self.settings, self.owner))
        return job_name(spec, self.owner), "is made" if is_new else "is there already"

    def _found(self, api: Api, spec: WorkerSpec, jobs: Sequence[Job]) -> tuple[str, str] | None:
        """The Job that does this work already, or has done it for an earlier try of this run; and which it is.

        Raises:
            TrainingError: A Job trains other epochs of this very training now.
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
                    f"Job {name} trains other epochs of {spec.family.name} on {spec.task.dataset} now: wait until it "
                    "has ended, or delete it"
                )
            if not end and job.metadata.labels[RUN] != self.owner.run_id:
                api.label_job(name, {RUN: self.owner.run_id, ROOT_RUN: self.owner.root_run_id})
            return name, "has done this already" if end else "does this already"
        return None
