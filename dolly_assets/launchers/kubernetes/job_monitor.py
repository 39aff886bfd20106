"""Follows a Job to its end: its messages and logs, why it waits, how long it takes, why it fails.

It knows one Job and the limits for it; what the worker trains it doesn't know.
"""

import contextlib
import queue
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self

from dolly_assets.core.errors import ConfigurationError, DollyError, WorkerError, WorkerStopped
from dolly_assets.core.text import duration
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
    has_started,
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

QUEUE_SECONDS = 15.0  # between requests for the position in a queue
LOOK_SECONDS = 1.0  # between readings of the store, which does not notify of new messages
SILENCE_SECONDS = 60.0  # of the API, before it is logged
GANG_SECONDS = 30.0  # that pods may keep running without one of them
LOG_SECONDS = 10.0  # for the rest of the logs of pods that have ended
SEEN_SECONDS = 3.0  # that the end of a pod may be seen later than that of its Job
ENDING_SECONDS = 120.0  # for the cluster to remove a Job, in addition to its pods' grace period


class JobMonitor:
    """Follows one Job. All messages of its worker are passed on in the caller's thread.

    Args:
        api: The API of the Job's namespace.
        settings: How long the Job may wait, start and run.
        spec: What was requested; the Job may do more, which is not passed on.
        name: The Job's name.
        on_message: Called with each message, in order.
    """

    def __init__(
        self,
        api: Api,
        settings: KubernetesSettings,
        spec: WorkerSpec,
        name: str,
        on_message: Callable[[Message | Times], None],
    ) -> None:
        self._api, self._settings, self._spec, self._name = api, settings, spec, name
        self._emit = on_message
        self._resources = WorkerResources.of(spec)
        self._messages = MessageReader(spec, name, on_message)
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
        self._reported: set[str] = set()
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
            self._emit(times)
        except Exception:
            if error is None:  # otherwise the earlier error is the one to report
                raise

    def follow(self) -> None:
        """Return when the Job has done its work.

        Raises:
            WorkerStopped: The Job was deleted.
            ConfigurationError: The account may not list Jobs or pods.
            DollyError: The worker ended with an error that the user can fix.
            WorkerError: The Job failed, or waited, started or ran for longer than it may.
        """
        while not self._jobs.is_listed.is_set() or not self._pods.is_listed.is_set():
            self._check_the_api()
            self._pause()
        while True:
            self._messages.pass_on()
            job = next(iter(self._jobs.now()), None)
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
            self._check_the_api()
            self._pause()

    def end(self) -> None:
        """Stop the Job, whose pods save their state first, and wait until it is gone."""
        with contextlib.suppress(Exception):
            self._emit(Log(text=f"stopping Job {self._name}; its pods save their state first"))
        try:
            self._api.delete_job(self._name)
        except WorkerError as error:
            with contextlib.suppress(Exception):
                self._emit(
                    Log(
                        text=f"cannot stop Job {self._name}, the sensor orphaned_jobs will retry: "
                        f"{error}"
                    )
                )
            return
        deadline = time.monotonic() + self._grace_seconds + ENDING_SECONDS
        while self._jobs.now() and time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # the error that ended `follow` is being raised
                self._messages.pass_on()
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
        """How often pods had to start again; those of one disruption count once."""
        started = [
            index_of(pod) for pod in [*self._pods.gone(), *self._pods.now()] if has_started(pod)
        ]
        return max((started.count(index) - 1 for index in started), default=0)

    def _pause(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=LOOK_SECONDS)
            while True:
                self._wake.get_nowait()

    def _follow_pods(self) -> None:
        """Stream the logs of pods that run, and report those that have failed."""
        gone, pods = self._pods.gone(), self._pods.now()
        for pod in [*gone, *pods]:
            name = pod.metadata.name
            if has_started(pod) and name not in self._logs:
                prefix = f"[rank {self._ranks_of(pod)} {name}] "
                self._logs[name] = LogStream(partial(self._api.pod_log, name), prefix)
        for pod in [*gone, *(pod for pod in pods if pod.status.phase == "Failed")]:
            if pod.metadata.name not in self._reported and pod.status.phase != "Succeeded":
                self._reported.add(pod.metadata.name)
                self._emit(Log(text=how_it_ended(pod)))

    def _ranks_of(self, pod: Pod) -> str:
        """Return the ranks that run in a pod, such as `4-7`."""
        first = index_of(pod) * self._resources.ranks
        last = first + self._resources.ranks - 1
        return f"{first}-{last}" if last > first else str(first)

    def _keep_time(self, job: Job) -> None:
        """Log why the Job waits; raise when it waits, starts or runs for longer than it may."""
        pods = self._pods.now()
        clock = self._clock = self._clock or self._new_clock(job, pods)
        is_running = nodes_at_work(pods) >= self._resources.nodes
        waited = clock.waiting_seconds
        if clock.turn(is_running=is_running):
            self._why = ""
            if is_running:
                nodes = {pod.spec.node_name or "?" for pod in pods if pod.status.phase == "Running"}
                self._emit(
                    Log(
                        text=f"Job {self._name} runs on {', '.join(sorted(nodes))} after waiting "
                        f"for {duration(waited)}"
                    )
                )
        self._restart_gang(pods)
        if is_running:
            self._starting_since = None
            self._limit_running(clock)
            return
        self._log_why_it_waits(job, pods)
        self._limit_waiting(pods, clock)

    def _new_clock(self, job: Job, pods: list[Pod]) -> Clock:
        """Return a clock that counts the time since the Job was created, if no pod has started."""
        if any(has_started(pod) for pod in [*pods, *self._pods.gone()]):
            return Clock(0)
        since_creation = datetime.now(UTC) - job.metadata.creation_timestamp
        return Clock(max(0.0, since_creation.total_seconds()))

    def _log_why_it_waits(self, job: Job, pods: list[Pod]) -> None:
        warnings = []
        if not pods and not job.spec.suspend:
            with contextlib.suppress(Exception):  # the warnings only help
                warnings = self._api.warnings_of(self._name)
        why = why_it_waits(job, pods, warnings, self._before_in_queue(job))
        if why != self._why:
            self._why = why
            self._emit(Log(text=f"Job {self._name} is waiting: {why}"))

    def _before_in_queue(self, job: Job) -> int | None:
        """Return how many other workloads are admitted first, as of a moment ago."""
        queue = queue_of(job)
        if queue and time.monotonic() - self._asked_queue_at > QUEUE_SECONDS:
            self._asked_queue_at = time.monotonic()
            self._before = self._api.before_in_queue(queue, self._name)
        return self._before

    def _limit_running(self, clock: Clock) -> None:
        limit = self._settings.run_minutes
        if limit and clock.running_seconds > 60 * limit:
            raise WorkerError(
                f"Job {self._name} has reached run_minutes ({duration(60 * limit)}); published "
                "epochs are kept, run again to resume"
            )

    def _limit_waiting(self, pods: list[Pod], clock: Clock) -> None:
        now = time.monotonic()
        self._starting_since = (self._starting_since or now) if is_starting(pods) else None
        queue_seconds, start_seconds = (
            60 * self._settings.queue_minutes,
            60 * self._settings.start_minutes,
        )
        if clock.seconds > queue_seconds:
            what = f"has waited for {duration(queue_seconds)} (queue_minutes)"
        elif self._starting_since and now - self._starting_since > start_seconds:
            what = (
                f"was scheduled but did not start within {duration(start_seconds)} (start_minutes)"
            )
        else:
            return
        raise WorkerError(f"Job {self._name} {what}, giving up: {self._why}")

    def _restart_gang(self, pods: list[Pod]) -> None:
        """Evict pods that keep running although one of them was lost, so that all start together.

        A collective operation blocks forever when a rank is missing, and NCCL notices only after
        its own, long timeout. The Job replaces the lost pod alone; the others have to start again
        too, and from the same state. Most notice the loss themselves within seconds, hence the
        wait. A pod that was created after the loss has already started again.
        """
        left = self._left_behind(pods)
        if not left:
            self._left_behind_since = None
            return
        now = time.monotonic()
        self._left_behind_since = self._left_behind_since or now
        if now - self._left_behind_since < GANG_SECONDS:
            return
        for pod in left:
            if not pod.metadata.deletion_timestamp:
                self._emit(
                    Log(text=f"evicting {pod.metadata.name}, so that it restarts with the others")
                )
                # Without the lost pod's part no state can be saved, so the pod needs no more time
                # than uploads that are already running.
                self._api.evict_pod(pod.metadata.name, min(GANG_SECONDS, self._grace_seconds))

    def _left_behind(self, pods: list[Pod]) -> list[Pod]:
        """Return the running pods that were created before, or with, the pod lost last."""
        lost = [
            pod
            for pod in [*pods, *self._pods.gone()]
            if pod.status.phase == "Failed" or disruption(pod)
        ]
        if not lost:
            return []
        newest = max(pod.metadata.creation_timestamp for pod in lost)
        return [
            pod
            for pod in pods
            if pod.status.phase == "Running"
            and pod.metadata.creation_timestamp <= newest
            and pod not in lost
        ]

    def _check_the_api(self) -> None:
        """Log that the API does not answer; raise when it answers that requests are forbidden."""
        now = time.monotonic()
        silent = [
            watched
            for watched in (self._jobs, self._pods)
            if watched.trouble and now - watched.heard_at > SILENCE_SECONDS
        ]
        for watched in silent:
            if watched.is_forbidden:
                raise ConfigurationError(
                    f"this account may not follow Jobs in the cluster: {watched.trouble}"
                )
            if not self._is_silent:
                self._emit(
                    Log(
                        text=f"Kubernetes does not answer ({watched.trouble}); the Job keeps "
                        "running meanwhile"
                    )
                )
        self._is_silent = bool(silent)

    def _see_pods_end(self) -> None:
        """Wait a moment for the end of pods, which may be seen later than that of their Job."""
        deadline = time.monotonic() + SEEN_SECONDS
        while not any(terminated(pod) for pod in self._pods.now()) and time.monotonic() < deadline:
            self._pause()

    def _finish(self) -> None:
        """Pass on the last logs and messages."""
        deadline = time.monotonic() + LOG_SECONDS
        self._follow_pods()
        for log in self._logs.values():
            log.finish(max(0.0, deadline - time.monotonic()))
        self._messages.pass_on()

    def _deleted(self) -> DollyError:
        self._finish()
        stopped = self._messages.stopped
        state = stopped.text if stopped else "published epochs are kept, run again to resume"
        return WorkerStopped(f"Job {self._name} was deleted: {state}")

    def _failure(self, job: Job) -> DollyError:
        """Return why a Job has failed."""
        pods = [*self._pods.gone(), *self._pods.now()]
        reason, message = failure_of(job)
        if any(is_out_of_memory(pod) for pod in pods):
            memory = self._spec.family.compute.memory_gib
            return WorkerError(
                f"Job {self._name}: the worker was killed, probably because memory ran out: raise "
                f"compute.memory_gib from {memory:g}, or "
                f"{what_to_change(self._spec.family.recipe)}"
            )
        if reason == "BackoffLimitExceeded":
            return WorkerError(
                f"Job {self._name} was disrupted more than {self._settings.restarts} times; giving "
                "up. Published epochs are kept, run again to resume"
            )
        if failures := self._messages.failures:
            first = failures[0]
            if first.by_user:
                return DollyError(first.error)
            message = f"rank {first.rank}: {first.error}; Job {self._name} has failed"
        else:
            message = f"Job {self._name} has failed: {reason}: {' '.join(message.split())}"
        return WorkerError(message + self._last_lines(pods))

    def _last_lines(self, pods: list[Pod]) -> str:
        """Return the end of the log of the pod that failed first, for the run's log."""
        for pod in pods:
            log = self._logs.get(pod.metadata.name)
            if pod.status.phase == "Failed" and log and log.last:
                return "\n" + "\n".join(log.last)
        return ""
