"""Following a Job to its end: what its pods say and write, why it waits, when it has taken too long, why it ended."""

import contextlib
import queue
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self

from dolly_assets.core.errors import ConfigurationError, DollyError, WorkerError, WorkerStopped
from dolly_assets.launchers.base import Times
from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.clock import Clock
from dolly_assets.launchers.kubernetes.job import WorkerResources
from dolly_assets.launchers.kubernetes.message_reader import MessageReader
from dolly_assets.launchers.kubernetes.pods import (
    Job,
    Pod,
    disruption,
    ending,
    failure_of,
    has_begun,
    how_it_ended,
    index_of,
    is_out_of_memory,
    is_starting,
    nodes_at_work,
    queue_of,
    terminated,
    why_it_waits,
)
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.launchers.kubernetes.watch import LogStream, Watched
from dolly_assets.training.loop.out_of_memory import what_to_change
from dolly_assets.worker.messages import Log, Message
from dolly_assets.worker.spec import WorkerSpec

QUEUE_SECONDS = 15.0  # between looks at the place in a queue
LOOK_SECONDS = 1.0  # between looks at the store, where nothing tells that there is something new
SILENCE_SECONDS = 60.0  # of the API, before it is told of
GANG_SECONDS = 30.0  # that pods may run on without one of them
LOG_SECONDS = 10.0  # for the rest of the logs of pods that have ended
SEEN_SECONDS = 3.0  # that the end of a pod may be seen later than its Job's
ENDING_SECONDS = 120.0  # for the cluster to clear away a Job, besides its pods' grace


class JobMonitor:
    """Follows one Job. Everything that its worker says is handed on in the caller's thread.

    Args:
        api: Of the Job's namespace.
        settings: How long it may wait, start and run.
        spec: What was asked for; the Job may do more, which is not handed on.
        name: The Job's.
        on_message: Hears of messages, in order.
    """

    def __init__(
        self,
        api: Api,
        settings: KubernetesSettings,
        spec: WorkerSpec,
        name: str,
        on_message: Callable[[Message | Times], None],
    ) -> None:
        self._api, self._settings, self._spec, self._name, self._tell = (
            api,
            settings,
            spec,
            name,
            on_message,
        )
        self._shape = WorkerResources.of(spec)
        self._inbox = MessageReader(spec, name, on_message)
        self._wake: queue.Queue[None] = queue.Queue()
        self._jobs = Watched(partial(api.list_job, name), partial(api.watch_job, name), self._wake)
        self._pods = Watched(
            partial(api.list_pods, name), partial(api.watch_pods, name), self._wake
        )
        self._logs: dict[str, LogStream] = {}
        self._clock: Clock | None = None
        self._why = ""
        self._before: int | None = None
        self._asked_queue_at = -QUEUE_SECONDS
        self._told: set[str] = set()
        self._is_silent = False
        self._starting_since: float | None = None
        self._left_behind_since: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._jobs.close()
        self._pods.close()
        for log in self._logs.values():
            log.finish(0)
        if self._clock is None:
            return
        times = Times(
            job=self._name,
            waiting_seconds=self._clock.waiting_seconds,
            running_seconds=self._clock.running_seconds,
            restarts=self._restarts,
        )
        try:
            self._tell(times)
        except Exception:
            if error is None:  # else that is what matters
                raise

    def follow(self) -> None:
        """Returns when the Job has done its work.

        Raises:
            WorkerStopped, DollyError, WorkerError: See `dolly_assets.launchers.base.Launcher`.
        """
        while not self._jobs.is_listed.is_set() or not self._pods.is_listed.is_set():
            self._refuse_to_be_forbidden()
            self._pause()
        was_there = False
        while True:
            self._inbox.hand_on()
            job = next(iter(self._jobs.now()), None)
            was_there |= job is not None
            self._follow_pods()
            if job is None:
                raise self._deleted()
            if end := ending(job):
                self._see_pods_end()
                self._finish()
                if end == "Complete":
                    return
                raise self._failure(job)
            self._keep_time(job)
            self._refuse_to_be_forbidden()
            self._pause()

    def end(self) -> None:
        """Ends the Job, whose pods save where they are first, and waits until it is gone."""
        with contextlib.suppress(Exception):
            self._tell(Log(text=f"Job {self._name} is ended; its pods save where they are first"))
        try:
            self._api.delete_job(self._name)
        except WorkerError as error:
            with contextlib.suppress(Exception):
                self._tell(
                    Log(
                        text=f"Job {self._name} could not be ended, orphaned_jobs will try again: {error}"
                    )
                )
            return
        deadline = time.monotonic() + self._grace_seconds + ENDING_SECONDS
        while self._jobs.now() and time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # what ended the following is on its way already
                self._inbox.hand_on()
                self._follow_pods()
            self._pause()
        with contextlib.suppress(Exception):
            self._finish()

    @property
    def _grace_seconds(self) -> float:
        pods = self._pods.now()
        return max((pod.spec.termination_grace_period_seconds or 30 for pod in pods), default=0)

    @property
    def _restarts(self) -> int:
        """How often pods had to begin again, those of one disruption counted once."""
        begun = [index_of(pod) for pod in [*self._pods.gone(), *self._pods.now()] if has_begun(pod)]
        return max((begun.count(index) - 1 for index in begun), default=0)

    def _pause(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=LOOK_SECONDS)
            while True:
                self._wake.get_nowait()

    def _follow_pods(self) -> None:
        """Streams the logs of pods that run, and tells of those that have ended."""
        for pod in [*self._pods.gone(), *self._pods.now()]:
            name = pod.metadata.name
            if has_begun(pod) and name not in self._logs:
                first = index_of(pod) * self._shape.ranks
                ranks = (
                    f"{first}-{first + self._shape.ranks - 1}"
                    if self._shape.ranks > 1
                    else str(first)
                )
                self._logs[name] = LogStream(
                    partial(self._api.pod_log, name), f"[rank {ranks} {name}] "
                )
        for pod in [
            *self._pods.gone(),
            *(pod for pod in self._pods.now() if pod.status.phase == "Failed"),
        ]:
            if pod.metadata.name not in self._told and pod.status.phase != "Succeeded":
                self._told.add(pod.metadata.name)
                self._tell(Log(text=how_it_ended(pod)))

    def _keep_time(self, job: Job) -> None:
        """Tells why the Job waits; refuses to wait, start or run for longer than it may."""
        pods = self._pods.now()
        if self._clock is None:
            begun = [*pods, *self._pods.gone()]
            before = datetime.now(UTC) - job.metadata.creation_timestamp
            self._clock = Clock(
                0 if any(has_begun(pod) for pod in begun) else max(0.0, before.total_seconds())
            )
        clock, is_running = self._clock, nodes_at_work(pods) >= self._shape.nodes
        waited = clock.waiting_seconds
        if clock.turn(is_running=is_running):
            self._why = ""
            if is_running:
                where = ", ".join(
                    sorted(
                        {pod.spec.node_name or "?" for pod in pods if pod.status.phase == "Running"}
                    )
                )
                self._tell(
                    Log(
                        text=f"Job {self._name} runs on {where}; it has waited for {_duration(waited)}"
                    )
                )
        self._restart_gang(pods)
        if is_running:
            self._starting_since = None
            limit = self._settings.run_minutes
            if limit and clock.running_seconds > 60 * limit:
                raise WorkerError(
                    f"Job {self._name} has run for {_duration(60 * limit)}, which is all that run_minutes gives it; "
                    "what was published is kept, and the same again goes on from there"
                )
            return
        self._say_why_it_waits(job, pods)
        self._limit_waiting(pods, clock)

    def _say_why_it_waits(self, job: Job, pods: list[Pod]) -> None:
        warnings = []
        if not pods and not job.spec.suspend:
            with contextlib.suppress(Exception):  # it only helps
                warnings = self._api.warnings_of(self._name)
        why = why_it_waits(job, pods, warnings, self._before_in_queue(job))
        if why != self._why:
            self._why = why
            self._tell(Log(text=f"Job {self._name} waits: {why}"))

    def _before_in_queue(self, job: Job) -> int | None:
        """How many others are admitted first, as it was a moment ago."""
        queue = queue_of(job)
        if queue and time.monotonic() - self._asked_queue_at > QUEUE_SECONDS:
            self._asked_queue_at = time.monotonic()
            self._before = self._api.before_in_queue(queue, self._name)
        return self._before

    def _limit_waiting(self, pods: list[Pod], clock: Clock) -> None:
        now = time.monotonic()
        self._starting_since = (self._starting_since or now) if is_starting(pods) else None
        settings = self._settings
        if clock.seconds > 60 * settings.queue_minutes:
            what = f"has waited for {_duration(60 * settings.queue_minutes)} (queue_minutes)"
        elif self._starting_since and now - self._starting_since > 60 * settings.start_minutes:
            what = f"has a machine and has not begun for {_duration(60 * settings.start_minutes)} (start_minutes)"
        else:
            return
        raise WorkerError(f"Job {self._name} {what}, and is given up: {self._why}")

    def _restart_gang(self, pods: list[Pod]) -> None:
        """Ends pods that have not noticed for a while that one of them was lost: all begin again together."""
        lost = [
            pod
            for pod in [*pods, *self._pods.gone()]
            if pod.status.phase == "Failed" or disruption(pod)
        ]
        when = max((pod.metadata.creation_timestamp for pod in lost), default=None)
        left = [
            pod
            for pod in pods
            if when
            and pod.status.phase == "Running"
            and pod.metadata.creation_timestamp <= when
            and pod not in lost
        ]
        self._left_behind_since = (self._left_behind_since or time.monotonic()) if left else None
        if (
            self._left_behind_since is None
            or time.monotonic() - self._left_behind_since < GANG_SECONDS
        ):
            return
        for pod in left:
            if not pod.metadata.deletion_timestamp:
                self._tell(
                    Log(text=f"{pod.metadata.name} is ended, to begin again with the others")
                )
                # Without the lost one's part nothing can be saved: no more than what is on its way
                # may end.
                self._api.evict_pod(pod.metadata.name, min(GANG_SECONDS, self._grace_seconds))

    def _refuse_to_be_forbidden(self) -> None:
        """Tells of an API that does not answer; gives up where it answers that we may not ask."""
        silent = [watched for watched in (self._jobs, self._pods) if watched.trouble]
        silent = [
            watched for watched in silent if time.monotonic() - watched.heard_at > SILENCE_SECONDS
        ]
        for watched in silent:
            if watched.is_forbidden:
                raise ConfigurationError(
                    f"the cluster does not let Jobs be followed: {watched.trouble}"
                )
            if not self._is_silent:
                self._tell(
                    Log(
                        text=f"Kubernetes does not answer ({watched.trouble}); the Job goes on meanwhile"
                    )
                )
        self._is_silent = bool(silent)

    def _see_pods_end(self) -> None:
        """Pods are watched apart from their Job, and may be seen to end after it."""
        deadline = time.monotonic() + SEEN_SECONDS
        while not any(terminated(pod) for pod in self._pods.now()) and time.monotonic() < deadline:
            self._pause()

    def _finish(self) -> None:
        """The last of what pods write and say."""
        deadline = time.monotonic() + LOG_SECONDS
        self._follow_pods()
        for log in self._logs.values():
            log.finish(max(0.0, deadline - time.monotonic()))
        self._inbox.hand_on()

    def _deleted(self) -> DollyError:
        self._finish()
        said = (
            self._inbox.stopped.text
            if self._inbox.stopped
            else "what was published is kept; run again to go on"
        )
        return WorkerStopped(f"somebody has deleted Job {self._name}: {said}")

    def _failure(self, job: Job) -> DollyError:
        """Why a Job has failed."""
        pods = [*self._pods.gone(), *self._pods.now()]
        reason, message = failure_of(job)
        if any(is_out_of_memory(pod) for pod in pods):
            memory = self._spec.family.compute.memory_gib
            return WorkerError(
                f"Job {self._name}: the worker was killed, as happens when memory runs out: raise compute.memory_gib "
                f"from {memory:g}, or {what_to_change(self._spec.family.recipe)}"
            )
        if reason == "BackoffLimitExceeded":
            return WorkerError(
                f"Job {self._name} was disrupted more than {self._settings.restarts} times, and is given up; what was "
                "published is kept, and the same again goes on from there"
            )
        if failures := self._inbox.failures:
            first = failures[0]
            if first.by_user:
                return DollyError(first.error)
            message = f"rank {first.rank}: {first.error}; Job {self._name} has failed"
        else:
            message = f"Job {self._name} has failed: {reason}: {' '.join(message.split())}"
        return WorkerError(message + self._last_lines(pods))

    def _last_lines(self, pods: list[Pod]) -> str:
        """The end of the log of the pod that failed first, for the reader of the run."""
        for pod in pods:
            log = self._logs.get(pod.metadata.name)
            if pod.status.phase == "Failed" and log and log.last:
                return "\n" + "\n".join(log.last)
        return ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
