"""Interprets the states of a worker's Job and its pods: why they wait, why they have ended.

It makes no requests.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

# Types of kubernetes.client, which allow None for every attribute, even those that the API always
# fills in.
Job: TypeAlias = Any
Pod: TypeAlias = Any
Event: TypeAlias = Any
Terminated: TypeAlias = Any

KILLED = 137


def ending(job: Job) -> Literal["Complete", "Failed"] | None:
    """Return how a Job has ended; None while it has not."""
    for condition in job.status.conditions or []:
        if condition.type in ("Complete", "Failed") and condition.status == "True":
            return condition.type
    return None


def failure_of(job: Job) -> tuple[str, str]:
    """Return reason and message of a Job that failed."""
    for condition in job.status.conditions or []:
        if condition.type == "Failed":
            return condition.reason or "", condition.message or ""
    return "", ""


def index_of(pod: Pod) -> int:
    """Return a pod's index in its Job."""
    return int((pod.metadata.annotations or {}).get("batch.kubernetes.io/job-completion-index", 0))


def has_started(pod: Pod) -> bool:
    """Return whether a pod has ever run, so that there is a log."""
    return pod.status.phase in ("Running", "Succeeded", "Failed") and bool(
        pod.status.container_statuses
    )


def nodes_at_work(pods: Sequence[Pod]) -> int:
    """Return how many of a Job's nodes are running or done."""
    at_work = [pod for pod in pods if pod.status.phase in ("Running", "Succeeded")]
    return len({index_of(pod) for pod in at_work if not pod.metadata.deletion_timestamp})


def queue_of(job: Job) -> str | None:
    """Return the Kueue queue in which a Job waits to be admitted; None if it does not wait."""
    return (
        (job.metadata.labels or {}).get("kueue.x-k8s.io/queue-name") if job.spec.suspend else None
    )


def why_it_waits(
    job: Job, pods: Sequence[Pod], warnings: Sequence[Event], before: int | None = None
) -> str:
    """Return what keeps a Job's pods from running, on one line.

    Args:
        job: The Job.
        pods: Its pods.
        warnings: Events of the Job itself, the newest last.
        before: How many other workloads its queue admits first, if known.
    """
    if queue := queue_of(job):
        return f"in the queue {queue}" + ("" if before is None else f", {before} ahead of it")
    if job.spec.suspend:
        return "the Job is suspended"
    found = [_why_a_pod_waits(pod) for pod in pods if pod.status.phase == "Pending"]
    if any(found):
        return "; ".join(dict.fromkeys(filter(None, found)))
    if warnings:
        return _flat(warnings[-1].message)
    if any(pod.metadata.deletion_timestamp for pod in pods):
        return "earlier pods are terminating"
    return "its pods are being created"


def is_starting(pods: Sequence[Pod]) -> bool:
    """Return whether a pod is scheduled, so that it holds its GPUs, but does not run yet."""
    return any(pod.status.phase == "Pending" and pod.spec.node_name for pod in pods)


def _why_a_pod_waits(pod: Pod) -> str:
    for status in pod.status.container_statuses or []:
        if status.state and status.state.waiting:
            waiting = status.state.waiting
            return _flat(
                f"{waiting.reason}: {waiting.message}" if waiting.message else waiting.reason or ""
            )
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return _flat(f"{condition.reason}: {condition.message}")
    return "its container is being created" if pod.spec.node_name else ""


def terminated(pod: Pod) -> Terminated | None:
    """Return how the worker's container has ended; None if it has not, or it is unknown."""
    for status in pod.status.container_statuses or []:
        if status.name == "worker" and status.state and status.state.terminated:
            return status.state.terminated
    return None


def disruption(pod: Pod) -> str:
    """Return why the cluster has ended a pod for reasons of its own; empty if it has not."""
    for condition in pod.status.conditions or []:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return _flat(
                f"{condition.reason}: {condition.message}"
                if condition.message
                else condition.reason or ""
            )
    return ""


def is_out_of_memory(pod: Pod) -> bool:
    """Return whether the kernel has probably killed a pod's processes for lack of host memory."""
    end = terminated(pod)
    if end is None or disruption(pod):
        return False
    return end.reason == "OOMKilled" or (
        end.exit_code == KILLED and not pod.metadata.deletion_timestamp
    )


def how_it_ended(pod: Pod) -> str:
    """Return a phrase for the run's log on how a pod has failed."""
    end, name = terminated(pod), pod.metadata.name
    if why := disruption(pod):
        return f"{name} was evicted ({why})"
    if end is None:
        return f"{name} disappeared ({pod.status.reason or 'deleted'})"
    return f"{name} exited with code {end.exit_code}" + (
        f" ({end.reason})" if end.reason != "Error" else ""
    )


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())
