"""Why a Job has failed: the error of its worker, or what the cluster did to it, and what to do.

It makes no requests.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dolly_assets.core.errors import DollyError, WorkerError
from dolly_assets.launchers.kubernetes.pods import (
    NOT_STARTED,
    Job,
    Pod,
    failed_for_good,
    failure_of,
    has_started,
    how_it_ended,
    index_of,
    is_out_of_memory,
    quoted,
    terminated,
)
from dolly_assets.launchers.kubernetes.worker_resources import WorkerResources
from dolly_assets.training.loop.out_of_memory import what_to_change
from dolly_assets.worker.messages import Failed
from dolly_assets.worker.spec import WorkerSpec

# https://kubernetes.io/docs/concepts/workloads/controllers/job/#backoff-limit-per-index
NO_PROGRAM = re.compile(r'exec: ".+": (?:executable file not found|stat .*no such file)')  # runc's
TOO_MANY_RESTARTS = ("BackoffLimitExceeded", "FailedIndexes", "MaxFailedIndexesExceeded")


@dataclass(frozen=True)
class Failure:
    """The end of one Job's worker.

    Attributes:
        name: The Job's name.
        spec: What the worker was to do.
        restarts: How often the Job may restart.
        pods: All of its pods that were seen.
        failures: The errors that ranks have reported, and the names of their pods.
        logs: The last lines of the logs of pods, by their names.
    """

    name: str
    spec: WorkerSpec
    restarts: int
    pods: Sequence[Pod]
    failures: Sequence[tuple[str, Failed]]
    logs: Mapping[str, Sequence[str]]

    def error(self, job: Job) -> DollyError:
        """Return why a Job has failed."""
        if pod := out_of_memory(self.pods):
            return self.out_of_memory(pod)
        reason, message = failure_of(job)
        if reason in TOO_MANY_RESTARTS:
            last = self._ended()[-1:]
            return WorkerError(
                f"Job {self.name} was disrupted more than {self.restarts} times; giving up. "
                "Published epochs are kept, run again to resume"
                + "".join(f". The last time, {how_it_ended(pod)}" for pod in last)
            )
        culprits = self._culprits()
        names = [pod.metadata.name for pod in culprits]
        if failures := [failed for pod, failed in self.failures if pod in names or not names]:
            first = failures[0]
            if first.by_user:
                return DollyError(first.error)
            text = f"rank {first.rank}: {first.error}; Job {self.name} has failed"
        else:
            text = f"Job {self.name} has failed: {reason}: {quoted(message)}"
            text += "".join(f" ({how_it_ended(pod)})" for pod in culprits[:1])
        return WorkerError(text + self._last_lines(culprits))

    def out_of_memory(self, pod: Pod) -> WorkerError:
        """Return what to do about a worker that the kernel has killed."""
        memory = self.spec.family.compute.memory_gib
        return WorkerError(
            f"Job {self.name}: memory ran out, and the worker was killed ({how_it_ended(pod)}): "
            f"raise compute.memory_gib from {memory:g}, or "
            f"{what_to_change(self.spec.family.recipe)}"
        )

    def without_program(self, pod: Pod) -> WorkerError:
        """Return what to do about an image in which the worker's command does not exist."""
        [worker] = pod.spec.containers
        return WorkerError(
            f"Job {self.name}: the image {worker.image} has no {worker.command[0]} "
            f"({how_it_ended(pod)}): name an image of the worker, of this version, as `image` in "
            "the file that DOLLY_KUBERNETES names"
        )

    def _ended(self) -> list[Pod]:
        """Return the pods that have failed, in the order in which they did."""
        ended = [pod for pod in self.pods if pod.status.phase == "Failed"]
        return sorted(ended, key=_ended_at)

    def _culprits(self) -> list[Pod]:
        """Return the pods whose exit failed the Job, first the first; else the last to fail."""
        nodes = WorkerResources.of(self.spec).nodes
        ended = self._ended()
        return [pod for pod in ended if failed_for_good(pod, nodes)] or ended[-1:]

    def _last_lines(self, pods: Sequence[Pod]) -> str:
        """Return the end of the log of the first of some pods that has one, for the run's log."""
        for pod in pods:
            if lines := self.logs.get(pod.metadata.name):
                return "\n" + "\n".join(lines)
        return ""


def out_of_memory(pods: Sequence[Pod]) -> Pod | None:
    """Return the pod that was killed for lack of memory, unless its index has run since.

    A pod that has not failed yet would be deleted with its Job.
    """
    for pod in pods:
        if (
            pod.status.phase == "Failed"
            and is_out_of_memory(pod)
            and not any(
                index_of(other) == index_of(pod)
                and has_started(other)
                and other.metadata.creation_timestamp > pod.metadata.creation_timestamp
                for other in pods
            )
        ):
            return pod
    return None


def without_program(pods: Sequence[Pod]) -> Pod | None:
    """Return a pod whose container could not start because its command is not in the image."""
    for pod in pods:
        end = terminated(pod)
        if end and end.exit_code == NOT_STARTED and NO_PROGRAM.search(end.message or ""):
            return pod
    return None


def _ended_at(pod: Pod) -> float:
    end = terminated(pod)
    return ((end and end.finished_at) or pod.metadata.creation_timestamp).timestamp()
