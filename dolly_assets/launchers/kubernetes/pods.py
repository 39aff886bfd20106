"""Reading what the cluster says of a worker's Job and pods: why they wait, why they have ended.

It asks no cluster.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

# Of kubernetes.client, whose types let every attribute be None, also those that the API always
# fills in.
Job: TypeAlias = Any
Pod: TypeAlias = Any
Event: TypeAlias = Any
Terminated: TypeAlias = Any

KILLED = 137


def ending(job: Job) -> Literal["Complete", "Failed"] | None:
    """How a Job has ended; None while it has not."""
    for condition in job.status.conditions or []:
        if condition.type in ("Complete", "Failed") and condition.status == "True":
            return condition.type
    return None


def failure_of(job: Job) -> tuple[str, str]:
    """Reason and message of a Job that failed."""
    for condition in job.status.conditions or []:
        if condition.type == "Failed":
            return condition.reason or "", condition.message or ""
    return "", ""


def index_of(pod: Pod) -> int:
    """Which of its Job's pods it is."""
    return int((pod.metadata.annotations or {}).get("batch.kubernetes.io/job-completion-index", 0))


def has_begun(pod: Pod) -> bool:
    """Whether it has ever run, so that there is a log."""
    return pod.status.phase in ("Running", "Succeeded", "Failed") and bool(
        pod.status.container_statuses
    )


def nodes_at_work(pods: Sequence[Pod]) -> int:
    """How many of a Job's nodes run or are done."""
    at_work = [pod for pod in pods if pod.status.phase in ("Running", "Succeeded")]
    return len({index_of(pod) for pod in at_work if not pod.metadata.deletion_timestamp})


def queue_of(job: Job) -> str | None:
    """The queue of Kueue in which a Job waits to be admitted; None if it does not."""
    return (
        (job.metadata.labels or {}).get("kueue.x-k8s.io/queue-name") if job.spec.suspend else None
    )


def why_it_waits(
    job: Job, pods: Sequence[Pod], warnings: Sequence[Event], before: int | None = None
) -> str:
    """What keeps a Job's pods from running, on one line; `before` is how many others its queue admits first."""
    if queue := queue_of(job):
        return f"in the queue {queue}" + ("" if before is None else f", {before} before it")
    if job.spec.suspend:
        return "the Job is suspended"
    found = [_why_a_pod_waits(pod) for pod in pods if pod.status.phase == "Pending"]
    if any(found):
        return "; ".join(dict.fromkeys(filter(None, found)))
    if warnings:
        return _flat(warnings[-1].message)
    if any(pod.metadata.deletion_timestamp for pod in pods):
        return "earlier pods are ending"
    return "its pods are being made"


def is_starting(pods: Sequence[Pod]) -> bool:
    """Whether a pod holds a machine, GPUs and all, and does not run yet."""
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
    return "its container is being made" if pod.spec.node_name else ""


def terminated(pod: Pod) -> Terminated | None:
    """How the worker's container has ended; None if it has not, or nobody knows."""
    for status in pod.status.container_statuses or []:
        if status.name == "worker" and status.state and status.state.terminated:
            return status.state.terminated
    return None


def disruption(pod: Pod) -> str:
    """What the cluster did to a pod that it ended for its own reasons; empty if it did not."""
    for condition in pod.status.conditions or []:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return _flat(
                f"{condition.reason}: {condition.message}"
                if condition.message
                else condition.reason or ""
            )
    return ""


def is_out_of_memory(pod: Pod) -> bool:
    """Whether the kernel has ended a pod's processes for want of host memory, as far as can be told."""
    end = terminated(pod)
    if end is None or disruption(pod):
        return False
    return end.reason == "OOMKilled" or (
        end.exit_code == KILLED and not pod.metadata.deletion_timestamp
    )


def how_it_ended(pod: Pod) -> str:
    """A pod that failed, for the reader of the run."""
    end, name = terminated(pod), pod.metadata.name
    if why := disruption(pod):
        return f"{name} was taken away ({why})"
    if end is None:
        return f"{name} is gone ({pod.status.reason or 'deleted'})"
    return f"{name} ended with code {end.exit_code}" + (
        f" ({end.reason})" if end.reason != "Error" else ""
    )


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())
