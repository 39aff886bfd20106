"""Interprets the states of a worker's Job and its pods: how they run, and how they have ended.

It makes no requests.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from dolly_assets.core.text import duration, flat
from dolly_assets.training.loop.stop import STOPPED

# Types of kubernetes.client, which allow None for every attribute, even those that the API always
# fills in.
Job: TypeAlias = Any
Pod: TypeAlias = Any
Event: TypeAlias = Any
Terminated: TypeAlias = Any

TERMINATED = 143  # by SIGTERM, before the worker handles it
KILLED = 137  # by SIGKILL: after the grace period, by the kernel, or with its node
NOT_STARTED = 128  # the container runtime could not start it (reason StartError)
UNKNOWN = 255  # the runtime has lost it, as after a reboot (reason Unknown)
ABORTED = 134  # by SIGABRT, as NCCL ends a rank when it has waited for a lost one for too long
# The reasons of DisruptionTarget, in the words of a run's log.
# https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions
DISRUPTIONS = {
    "PreemptionByScheduler": "was preempted",
    "DeletionByTaintManager": "was moved from a node that does not answer or is not to be used",
    "EvictionByEvictionAPI": "was evicted",
    "DeletionByPodGC": "was lost with its node",
    "TerminationByKubelet": "was ended by its node",
}
TEXT_LENGTH = 400  # characters of a message that are quoted


def tolerated_exit_codes(nodes: int) -> list[int]:
    """Return the exit codes that do not mean an error in code or data, in order.

    A worker ends with `STOPPED` on request. The others are what a person, a kubelet or a container
    runtime does to a worker, whatever it trains; a new pod, perhaps on another node, may succeed.

    Args:
        nodes: Number of pods that train together.
    """
    alone = [STOPPED, NOT_STARTED, KILLED, TERMINATED, UNKNOWN]
    return sorted([*alone, ABORTED] if nodes > 1 else alone)


def ending(job: Job) -> Literal["Complete", "Failed"] | None:
    """Return how a Job has ended; None while it has not."""
    for condition in job.status.conditions or []:
        if condition.type in ("Complete", "Failed") and condition.status == "True":
            return condition.type
    return None


def is_ending(job: Job) -> bool:
    """Return whether a Job's end is decided, and only its last pods have to end.

    https://kubernetes.io/docs/concepts/workloads/controllers/job/#termination-of-job-pods
    """
    return any(
        condition.type in ("SuccessCriteriaMet", "FailureTarget") and condition.status == "True"
        for condition in job.status.conditions or []
    )


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


def has_ended(pod: Pod) -> bool:
    """Return whether nothing of a pod runs any more."""
    return pod.status.phase in ("Succeeded", "Failed")


def at_work(pods: Sequence[Pod]) -> list[Pod]:
    """Return those of a Job's pods that are running or done."""
    found = [pod for pod in pods if pod.status.phase in ("Running", "Succeeded")]
    return [pod for pod in found if not pod.metadata.deletion_timestamp]


def is_starting(pods: Sequence[Pod]) -> bool:
    """Return whether a pod is scheduled, so that it holds its GPUs, but does not run yet."""
    return any(pod.status.phase == "Pending" and pod.spec.node_name for pod in pods)


def is_on_silent_node(pod: Pod) -> bool:
    """Return whether the node of a running pod does not answer.

    The control plane then sets the pod's condition Ready to False; all else is what the kubelet
    reported last.
    https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller
    """
    conditions = {item.type: item.status for item in pod.status.conditions or []}
    return (
        pod.status.phase == "Running"
        and conditions.get("Ready") == "False"
        and conditions.get("ContainersReady") == "True"
    )


def grace_seconds_of(pod: Pod) -> float:
    """Return how long a pod may take to stop."""
    asked = pod.metadata.deletion_grace_period_seconds
    return float(pod.spec.termination_grace_period_seconds or 30 if asked is None else asked)


def terminated(pod: Pod) -> Terminated | None:
    """Return how the worker's container has ended; None if it has not, or it is unknown."""
    for status in pod.status.container_statuses or []:
        if status.name == "worker" and status.state and status.state.terminated:
            return status.state.terminated
    return None


def disruption(pod: Pod) -> str:
    """Return why the cluster has ended a pod for reasons of its own; empty if it has not."""
    condition = _disruption_condition(pod)
    return _reason_and_message(condition) if condition else ""


def _disruption_condition(pod: Pod) -> Any:
    """Return the condition that states why the cluster has ended a pod; None if it has not."""
    for condition in pod.status.conditions or []:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return condition
    return None


def is_out_of_memory(pod: Pod) -> bool:
    """Return whether the kernel has killed a pod's processes for lack of host memory.

    Exit code 137 alone does not mean that: any SIGKILL has it.
    """
    end = terminated(pod)
    return (
        end is not None
        and end.reason == "OOMKilled"
        and end.exit_code != STOPPED
        and not disruption(pod)
    )


def failed_for_good(pod: Pod, nodes: int) -> bool:
    """Return whether a pod has failed in a way for which its Job is not restarted."""
    end = terminated(pod)
    return (
        pod.status.phase == "Failed"
        and end is not None
        and not disruption(pod)
        and (is_out_of_memory(pod) or end.exit_code not in tolerated_exit_codes(nodes))
    )


def how_it_ended(pod: Pod) -> str:
    """Return a phrase for the run's log on how a pod has failed, and what to do about it."""
    return f"{pod.metadata.name} {_how(pod)}"


def _how(pod: Pod) -> str:
    end = terminated(pod)
    if condition := _disruption_condition(pod):
        what = DISRUPTIONS.get(condition.reason or "", "was disrupted")
        return f"{what} ({_reason_and_message(condition)})"
    if pod.status.reason:  # set by the kubelet, such as Evicted or UnexpectedAdmissionError
        return f"was ended by node {pod.spec.node_name} ({_reason_and_message(pod.status)})" + (
            ": raise compute.kubernetes.ephemeral_storage_gib"
            if "ephemeral" in (pod.status.message or "")
            else ""
        )
    if end is None:
        return "disappeared (deleted)"
    said = f": {quoted(end.message)}" if end.message else ""
    if end.exit_code == NOT_STARTED:
        return f"could not be started on node {pod.spec.node_name} ({end.reason}){said}"
    if end.reason == "ContainerStatusUnknown" and pod.metadata.deletion_timestamp:
        return f"was deleted; how its container ended is unknown ({end.reason}){said}"
    if end.exit_code == UNKNOWN or end.reason == "ContainerStatusUnknown":
        return f"was lost: node {pod.spec.node_name} has restarted ({end.reason}){said}"
    if end.exit_code == KILLED and end.reason != "OOMKilled":
        grace = f"deleted, and killed after {duration(grace_seconds_of(pod))}"
        return f"was {grace if pod.metadata.deletion_timestamp else 'killed (exit code 137)'}{said}"
    reason = f" ({end.reason})" if end.reason != "Error" else ""
    return f"exited with code {end.exit_code}{reason}{said}"


def _reason_and_message(item: Any) -> str:
    """Return reason and message of a condition or a status, on one line."""
    return quoted(": ".join(filter(None, (item.reason, item.message))))


def quoted(text: str | None) -> str:
    """Return a text of the cluster on one line, shortened."""
    return flat(text or "", TEXT_LENGTH)


def without_random_names(text: str, job: str) -> str:
    """Return a text in which the Job's pods have the same names each time they are created."""
    return re.sub(rf"({re.escape(job)}-\d+)-[a-z0-9]{{5}}\b", r"\1", text)
