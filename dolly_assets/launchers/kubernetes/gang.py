"""Pods that train together: they restart together, and the nodes that keep one from it are named.

It knows pods, not what they train.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dolly_assets.core.errors import WorkerError
from dolly_assets.core.text import duration
from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.pods import (
    Pod,
    grace_seconds_of,
    has_ended,
    index_of,
    is_on_silent_node,
    terminated,
)
from dolly_assets.training.loop.stop import STOPPED

GANG_SECONDS = 3.0  # that pods may keep running without one of them
SAVING_SECONDS = (
    60.0  # the same, after one that has saved its state: others may still upload theirs
)
UPLOAD_SECONDS = 30.0  # for uploads that run when a pod is restarted
OVERDUE_SECONDS = 30.0  # that a pod may take to end, in addition to its grace period
RETRY_SECONDS = 10.0  # between attempts to restart a pod


class Gang:
    """Restarts the pods of one Job that one of them has left behind.

    A collective operation blocks forever when a rank is missing, and NCCL notices only after its
    own, long timeout. The Job replaces the lost pod alone; the others have to start again too, and
    from the same state. Most notice the loss themselves within seconds, hence the wait.

    They are deleted, not evicted: a PodDisruptionBudget that spares trainings counts pods that
    wait for a lost one as healthy, and would keep them from ever training again.
    https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-budgets

    Args:
        api: The API of the pods' namespace.
        log: Called with each line.
    """

    def __init__(self, api: Api, log: Callable[[str], None]) -> None:
        self._api, self._log = api, log
        self._since: float | None = None
        self._retry_at = 0.0
        self._logged: set[str] = set()

    def restart(self, pods: Sequence[Pod], gone: Sequence[Pod]) -> bool:
        """Delete pods that keep running although one of them was lost.

        Returns:
            Whether there are any: no other pod is awaited before they have ended.
        """
        loss, now = latest_loss(pods, gone), time.monotonic()
        if not loss.left:
            self._since = None
            return False
        self._since = self._since or now
        has_saved = all((end := terminated(pod)) and end.exit_code == STOPPED for pod in loss.lost)
        wait = SAVING_SECONDS if has_saved else GANG_SECONDS
        if now - self._since < wait or now < self._retry_at:
            return True
        self._retry_at = now + RETRY_SECONDS
        for pod in loss.left:
            name = pod.metadata.name
            self._log_once(f"restarting {name} together with the others")
            # Without the lost pod's part no state can be saved, so the pod needs no more time
            # than uploads that are already running.
            try:
                self._api.delete_pod(name, min(UPLOAD_SECONDS, grace_seconds_of(pod)))
            except WorkerError as error:
                self._log_once(f"cannot restart {name}, trying again: {error}")
        return True

    def _log_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            self._log(text)


@dataclass(frozen=True)
class Loss:
    """What the latest loss of a pod has done to those that trained with it.

    Attributes:
        lost: The pods that have failed or disappeared.
        left: Those that still run, and wait for them.
    """

    lost: Sequence[Pod]
    left: Sequence[Pod]


def latest_loss(pods: Sequence[Pod], gone: Sequence[Pod]) -> Loss:
    """Return the pods of the latest attempt that were lost, and those that they have left behind.

    An attempt has one pod of each index. It ends with the first of them that is lost: those that
    have a node by then have met it, or will wait for it, and those that get one later meet its
    successor. Pods of an attempt may be created far apart, since each waits for a pause of its
    own, and one that notices the loss late outlives the first successors.

    A pod that is still ending, or whose node does not answer, is not lost yet: no other takes its
    place, and those that restarted would wait for it.
    """
    lost = [pod for pod in pods if pod.status.phase == "Failed"]
    lost += [pod for pod in gone if pod.status.phase in ("Running", "Failed")]
    waiting = sorted(lost, key=_joined_at)
    attempt, ended_at = dict[int, Pod](), None
    while waiting:
        ended_at, attempt = min(map(_ended_at, waiting)), {}
        for pod in [pod for pod in waiting if _joined_at(pod) <= ended_at]:
            attempt.setdefault(index_of(pod), pod)
        waiting = [pod for pod in waiting if attempt.get(index_of(pod)) is not pod]
    left = [
        pod
        for pod in pods
        if pod.status.phase == "Running"
        and not pod.metadata.deletion_timestamp
        and index_of(pod) not in attempt
        and ended_at
        and _joined_at(pod) <= ended_at
    ]
    return Loss(list(attempt.values()), left)


def _joined_at(pod: Pod) -> datetime:
    """Return when a pod got its node, by the scheduler's clock."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "True":
            return condition.last_transition_time or pod.metadata.creation_timestamp
    return pod.metadata.creation_timestamp


def _ended_at(pod: Pod) -> datetime:
    """Return when a pod had ended, by the API server's clock; nodes' clocks may differ.

    It is when the pod's status was written last, or when the pod was deleted by force.
    https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
    """
    fields = pod.metadata.managed_fields or []
    times = [entry.time for entry in fields if entry.subresource == "status" and entry.time]
    if pod.metadata.deletion_timestamp and not has_ended(pod):
        grace = timedelta(seconds=pod.metadata.deletion_grace_period_seconds or 0)
        times.append(pod.metadata.deletion_timestamp - grace)
    return max([_joined_at(pod), *times])


class Nodes:
    """Names the nodes that do not answer, and what to do about those that never will.

    Args:
        log: Called with each line.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._silent: dict[str, str] = {}  # nodes by pod
        self._ending: dict[str, float] = {}  # since when pods are ending
        self._stuck: set[str] = set()

    def look(self, pods: Sequence[Pod]) -> None:
        """Log what has changed."""
        now = time.monotonic()
        for pod in [pod for pod in pods if not has_ended(pod)]:
            name, node = pod.metadata.name, pod.spec.node_name
            is_silent = is_on_silent_node(pod)
            if is_silent and name not in self._silent:
                self._silent[name] = node
                self._log(_silence(pod))
            elif not is_silent and self._silent.pop(name, None):
                self._log(f"node {node} of {name} answers again")
            if not pod.metadata.deletion_timestamp:
                continue
            since = self._ending.setdefault(name, now)
            overdue_at = since + grace_seconds_of(pod) + OVERDUE_SECONDS
            if (is_silent or now > overdue_at) and name not in self._stuck:
                self._stuck.add(name)
                self._log(_what_to_do(pod))


def _silence(pod: Pod) -> str:
    waits = [
        item.toleration_seconds
        for item in pod.spec.tolerations or []
        if item.key == "node.kubernetes.io/unreachable"
    ]
    if waits and waits[0] is not None:
        then = f"if it stays silent, Kubernetes ends the pod after {duration(waits[0])}"
    else:
        then = "its pod waits for it"
    return (
        f"node {pod.spec.node_name} of {pod.metadata.name} does not answer: {then}; check it with "
        f"`kubectl describe node {pod.spec.node_name}`"
    )


def _what_to_do(pod: Pod) -> str:
    """Return how to end a pod for good whose node cannot.

    https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown
    """
    node = pod.spec.node_name
    return (
        f"{pod.metadata.name} is not replaced before its node {node} confirms that it has ended, "
        "and the node does not answer. If the node is off for good, run "
        f"`kubectl delete node {node}` or `kubectl taint nodes {node} "
        "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`"
    )
