"""Why a Job's pods do not run yet, in the words of Kubernetes, Kueue and their events.

It asks the API for what the Job and its pods don't say themselves, at most every few seconds, and
logs each reason once.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from dolly_assets.core.text import duration
from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.pods import (
    Event,
    Job,
    Pod,
    has_ended,
    is_on_silent_node,
    quoted,
    without_random_names,
)

ASK_SECONDS = (1.0, 15.0)  # between requests for what the API knows: the first wait, the longest
REPEAT_SECONDS = 1800.0  # until a reason that was logged is logged again
PODS_ASKED = 3  # whose events are read; those of a gang wait for the same
# The Job controller waits before it replaces a pod: these seconds, doubled with each failure.
# https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy
BACK_OFF_SECONDS = (10, 600)  # the first wait, the longest
UNINFORMATIVE = ("", "ContainerCreating", "PodInitializing")
QUEUE = "kueue.x-k8s.io/queue-name"


class Waiting:
    """Logs why one Job waits.

    Args:
        api: The API of the Job's namespace.
        job: The Job's name.
        log: Called with each line.

    Attributes:
        why: The latest reason.
        is_in_vain: Whether the namespace is being deleted, so that no pod can be created.
    """

    def __init__(self, api: Api, job: str, log: Callable[[str], None]) -> None:
        self._api, self._job, self._log = api, job, log
        self._ask_at, self._wait = 0.0, ASK_SECONDS[0]
        self._answer = ""
        self._logged: dict[str, float] = {}
        self.why, self.is_in_vain = "", False

    def is_over(self) -> None:
        """Forget what was logged: all pods run."""
        self.why = ""
        self._logged.clear()
        self._ask_at, self._wait = 0.0, ASK_SECONDS[0]

    def look(self, job: Job, pods: Sequence[Pod], *, failures: int, seconds: float) -> None:
        """Log why a Job waits, unless that was logged before.

        Args:
            job: The Job.
            pods: Its pods.
            failures: How often a pod of one index has failed.
            seconds: How long it has been waiting.
        """
        self.why = why_it_waits(job, pods, self._asked(job, pods), failures)
        now = time.monotonic()
        if now - self._logged.get(self.why, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        self._logged[self.why] = now
        so_far = f" ({duration(seconds)} so far)" if seconds >= 60 else ""
        self._log(f"Job {self._job} is waiting{so_far}: {self.why}")

    def _asked(self, job: Job, pods: Sequence[Pod]) -> str:
        """Return what the API knows besides Job and pods, as of a moment ago."""
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at, self._wait = now + self._wait, min(2 * self._wait, ASK_SECONDS[1])
            try:
                self._answer = without_random_names(self._ask(job, pods), self._job)
            except Exception:  # noqa: BLE001 it only helps
                self._answer = ""
        return self._answer

    def _ask(self, job: Job, pods: Sequence[Pod]) -> str:
        if queue := queue_of(job):
            place = self._api.before_in_queue(queue, self._job)
            reason = self._api.workload_reason(job.metadata.uid)
            reported = "" if place is None else f", {place} ahead of it"
            return reported + (f": {quoted(reason)}" if reason else "")
        starting = [pod for pod in pods if pod.status.phase == "Pending" and pod.spec.node_name]
        for pod in [pod for pod in starting if _status_of(pod) in UNINFORMATIVE][:PODS_ASKED]:
            if said := latest(self._api.warnings_of("Pod", pod.metadata.name)):
                return said
        lacks_pods = sum(not has_ended(pod) for pod in pods) < job.spec.completions
        if lacks_pods and not job.spec.suspend:
            self.is_in_vain = self._api.is_ending()  # where no event can be created, either
            newest = max((pod.metadata.creation_timestamp for pod in pods), default=None)
            return latest(self._api.warnings_of("Job", self._job), newest)
        return ""


def latest(warnings: Sequence[Event], after: datetime | None = None) -> str:
    """Return reason and message of the newest of some events, on one line; empty without any.

    Args:
        warnings: The events.
        after: Earlier ones don't count.
    """
    newest = max(warnings, key=_time_of, default=None)
    if newest is None or (after and _time_of(newest) < after):
        return ""
    return quoted(f"{newest.reason}: {newest.message}")


def _time_of(event: Event) -> datetime:
    """Return when an event happened last; which field has it depends on who reported it."""
    return event.last_timestamp or event.event_time or event.metadata.creation_timestamp


def queue_of(job: Job) -> str | None:
    """Return the Kueue queue in which a Job waits to be admitted; None if it does not wait."""
    return (job.metadata.labels or {}).get(QUEUE) if job.spec.suspend else None


def why_it_waits(job: Job, pods: Sequence[Pod], reported: str, failures: int = 0) -> str:
    """Return what keeps a Job's pods from running, on one line.

    Args:
        job: The Job.
        pods: Its pods.
        reported: What events, or its queue, say.
        failures: How often a pod of one index has failed.
    """
    if queue := queue_of(job):
        return f"in the queue {queue}{reported}"
    if job.spec.suspend:
        return "the Job is suspended"
    reasons = [_why_a_pod_waits(pod, reported) for pod in pods if pod.status.phase == "Pending"]
    ending = [pod for pod in pods if pod.metadata.deletion_timestamp and not has_ended(pod)]
    stuck = [pod for pod in ending if is_on_silent_node(pod)]
    reasons += [
        f"node {pod.spec.node_name} of {pod.metadata.name} does not answer" for pod in stuck
    ]
    if any(reasons):
        return "; ".join(dict.fromkeys(filter(None, reasons)))
    if ending:
        return "earlier pods are terminating"
    if reported:
        return reported
    if failures:
        return _pause(failures)
    return "its pods are being created"


def _pause(failures: int) -> str:
    first, longest = BACK_OFF_SECONDS
    seconds = min(first * 2 ** (failures - 1), longest)
    return (
        f"Kubernetes replaces its pods {duration(seconds)} after they have ended, a pause that "
        "doubles with each restart"
    )


def _why_a_pod_waits(pod: Pod, reported: str) -> str:
    if pod.metadata.deletion_timestamp:
        return ""
    status = _status_of(pod)
    if status not in UNINFORMATIVE:
        return status
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return quoted(f"{condition.reason}: {condition.message}")
    if not pod.spec.node_name:
        return ""
    return reported or "its container is being created"


def _status_of(pod: Pod) -> str:
    """Return what a container of a pod waits for, on one line."""
    for status in pod.status.container_statuses or []:
        if status.state and status.state.waiting:
            waiting = status.state.waiting
            return quoted(": ".join(filter(None, (waiting.reason, waiting.message))))
    return ""
