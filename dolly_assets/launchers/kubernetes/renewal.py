"""When a Job is replaced by one that continues its work, so that it restarts without a pause.

The Job controller waits 10 s before it replaces a pod, and twice as long after each further failure
of the same index, 10 min at most, however long the pods had been at work.
https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy
The pause protects a cluster from pods that fail as soon as they start. A training that was at work
for a while owes none, and would lose hours to it on nodes that come and go. It makes no requests.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from dolly_assets.launchers.kubernetes.pods import (
    NOT_STARTED,
    Job,
    Pod,
    failed_for_good,
    has_started,
    index_of,
    is_ending,
    terminated,
)
from dolly_assets.launchers.kubernetes.waiting import QUEUE

WORKED_SECONDS = 60.0  # of all pods: no pause is owed after them


def restarts_after_renewal(job: Job, pods: Sequence[Pod], gone: Sequence[Pod]) -> int | None:
    """Return how often a Job that replaces this one may restart; None if it is to stay.

    It stays until all of its pods have been disrupted, so that nothing of it runs or saves. In a
    queue of Kueue it keeps its place and its quota, which a new one would have to wait for.

    Args:
        job: The Job.
        pods: Its pods, ended ones included.
        gone: Those that were deleted.
    """
    if job.metadata.deletion_timestamp or is_ending(job) or job.spec.suspend:
        return None
    by_index = [index_of(pod) for pod in (*pods, *gone)]
    if QUEUE in (job.metadata.labels or {}) or set(by_index) != set(range(job.spec.completions)):
        return None
    latest = {index_of(pod): pod for pod in sorted((*gone, *pods), key=_created)}.values()
    has_ended = all(pod.status.phase == "Failed" or pod in gone for pod in latest)
    if not has_ended or not all(_was_disrupted_at_work(pod, len(latest)) for pod in latest):
        return None
    left = job.spec.backoff_limit_per_index - max(map(by_index.count, by_index))
    return left if left >= 0 else None


def _created(pod: Pod) -> datetime:
    return pod.metadata.creation_timestamp


def _was_disrupted_at_work(pod: Pod, nodes: int) -> bool:
    """Return whether a pod has ended by a disruption, after it had been at work for a while."""
    end = terminated(pod)
    is_error = failed_for_good(pod, nodes) or (end and end.exit_code == NOT_STARTED)
    if is_error or not has_started(pod) or pod.status.phase == "Succeeded":
        return False
    # The end of a pod whose node was lost, or has restarted, has no times.
    since = (end and end.started_at) or pod.status.start_time or _created(pod)
    until = (end and end.finished_at) or datetime.now(UTC)
    return (until - since).total_seconds() >= WORKED_SECONDS
