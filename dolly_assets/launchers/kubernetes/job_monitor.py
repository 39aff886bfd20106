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
from dolly_assets.launchers.kubernetes.api import Api, refusal
from dolly_assets.launchers.kubernetes.clock import Clock
from dolly_assets.launchers.kubernetes.failure import Failure, out_of_memory, without_program
from dolly_assets.launchers.kubernetes.gang import Gang, Nodes
from dolly_assets.launchers.kubernetes.job import renewed
from dolly_assets.launchers.kubernetes.limits import Limits
from dolly_assets.launchers.kubernetes.message_reader import MessageReader
from dolly_assets.launchers.kubernetes.pod_logs import PodLogs
from dolly_assets.launchers.kubernetes.pods import (
    Job,
    Pod,
    at_work,
    ending,
    grace_seconds_of,
    has_ended,
    has_started,
    index_of,
    is_ending,
)
from dolly_assets.launchers.kubernetes.renewal import restarts_after_renewal
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.launchers.kubernetes.waiting import Waiting
from dolly_assets.launchers.kubernetes.watch import Watched
from dolly_assets.launchers.kubernetes.worker_resources import WorkerResources
from dolly_assets.worker.messages import Log, Message
from dolly_assets.worker.spec import WorkerSpec

LOOK_SECONDS = 1.0  # between readings of the store, which does not notify of new messages
SILENCE_SECONDS = 60.0  # of the API, before it is logged
SEEN_SECONDS = 3.0  # that the end of a pod may be seen later, or earlier, than that of its Job
SLOW_SECONDS = 10.0  # for something to be deleted, before it is logged
ENDING_SECONDS = 120.0  # for the cluster to remove a Job, in addition to its pods' grace period
QUOTA_SECONDS = 60.0  # for a quota to count the Jobs that exist
ORPHAN_SECONDS = 30.0  # for the cluster to begin to end the pods of a Job that is gone


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
        self._earlier: list[Pod] = []  # of Jobs that were replaced
        self._watch()
        ranks, pods = self._resources.ranks, lambda: self._pods.now()  # of the newest Job
        self._logs = PodLogs(api, ranks, pods, self._log)
        self._limits = Limits(settings)
        self._clock: Clock | None = None
        self._gang, self._nodes = Gang(api, self._log), Nodes(self._log)
        self._is_silent = False
        self._is_kept = False

    def _watch(self) -> None:
        """Begin to watch the Job and its pods."""
        api, name, wake = self._api, self._name, self._wake
        self._jobs = Watched(partial(api.list_job, name), partial(api.watch_job, name), wake)
        self._pods = Watched(partial(api.list_pods, name), partial(api.watch_pods, name), wake)
        self._waiting = Waiting(api, name, self._log)

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
        self._logs.close()
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
        self._wait_for_lists()
        while True:
            self._messages.pass_on()
            job = next(iter(self._jobs.now()), None)
            self._follow_pods()
            if job is None:
                raise self._deleted()
            self._nodes.look(self._pods.now())
            if end := ending(job):
                self._see_pods_end()
                self._finish()
                if end == "Complete":
                    return
                raise self._failure.error(job)
            if not is_ending(job):
                self._end_without_memory()
                self._end_without_program()
                self._keep_time(job)
                restarts = restarts_after_renewal(job, self._pods.now(), self._pods.gone())
                if restarts is not None:
                    self._renew(renewed(job, restarts))
            self._check_the_api()
            self._pause()

    def _wait_for_lists(self) -> None:
        """Wait until Job and pods were listed."""
        while not self._jobs.is_listed.is_set() or not self._pods.is_listed.is_set():
            self._check_the_api()
            self._pause()

    def _renew(self, job: Job) -> None:
        """Replace the Job, whose pods have all ended, by one that continues its work.

        It is deleted first: a process that dies here leaves no Job behind that also restarts.
        """
        old, new = self._name, job.metadata.name
        self._log(f"Job {new} replaces {old}: it restarts at once, where Kubernetes would pause")
        self._follow_pods()
        self._api.delete_job(old)
        self._wait(lambda: bool(self._jobs.now()), f"Job {new} waits until Job {old} is deleted")
        self._jobs.close()
        self._pods.close()
        self._earlier = self._seen()
        try:
            self._create(job)
            self._name = new
            self._watch()
        except BaseException:
            with contextlib.suppress(Exception):
                self._api.delete_job(new)
            raise
        self._wait_for_lists()

    def _create(self, job: Job) -> None:
        """Create a Job; a quota may take a moment to know that an earlier one is gone."""
        deadline = time.monotonic() + QUOTA_SECONDS
        while True:
            try:
                self._api.create_job(job)
            except WorkerError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_SECONDS)
            else:
                return

    def end(self) -> None:
        """Stop the Job, whose pods save their state first, and wait until it is gone.

        A Job that has ended stays for `keep_minutes`.
        """
        if self._jobs.is_listed.is_set() and not any(map(_is_alive, self._jobs.now())):
            return
        with contextlib.suppress(Exception):
            self._log(f"stopping Job {self._name}; its pods save their state first")
        try:
            if self._is_kept:
                self._api.fail_job(self._name)
            else:
                self._api.delete_job(self._name)
        except WorkerError as error:
            with contextlib.suppress(Exception):
                self._log(
                    f"cannot stop Job {self._name}, the sensor orphaned_jobs will retry: {error}"
                )
            return
        self._wait(lambda: any(not ending(job) for job in self._jobs.now()))
        with contextlib.suppress(Exception):
            self._finish()

    def _wait(self, is_there: Callable[[], bool], reason: str = "") -> None:
        """Wait for the end of what saves its state, for as long as that may take.

        Args:
            is_there: Whether it has not ended.
            reason: What is logged when it takes a while.
        """
        began = time.monotonic()
        deadline = began + self._grace_seconds + ENDING_SECONDS
        while is_there() and time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # the error that ended `follow` is being raised
                self._messages.pass_on()
                self._follow_pods()
                if reason and time.monotonic() > began + SLOW_SECONDS:
                    self._log(reason)
                    reason = ""
            self._pause()

    def _log(self, text: str) -> None:
        self._emit(Log(text=text))

    @property
    def _grace_seconds(self) -> float:
        return max((grace_seconds_of(pod) for pod in self._pods.now()), default=0)

    def _seen(self) -> list[Pod]:
        """Return all pods that were seen, also those of Jobs that this one has replaced."""
        return [*self._earlier, *self._seen_of_this_job()]

    def _seen_of_this_job(self) -> list[Pod]:
        return [*self._pods.gone(), *self._pods.now()]

    @property
    def _restarts(self) -> int:
        """How often pods had to start again; those of one disruption count once."""
        started = [index_of(pod) for pod in self._seen() if has_started(pod)]
        return max((started.count(index) - 1 for index in started), default=0)

    def _pause(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=LOOK_SECONDS)
            while True:
                self._wake.get_nowait()

    def _follow_pods(self) -> None:
        self._logs.follow(self._pods.gone(), self._pods.now())

    def _end_without_memory(self) -> None:
        """Raise when memory ran out: the worker would restart and need as much again."""
        if pod := out_of_memory(self._seen()):
            self._is_kept = True
            raise self._failure.out_of_memory(pod)

    def _end_without_program(self) -> None:
        """Raise when the image lacks the worker's program: no restart would find it."""
        if pod := without_program(self._seen()):
            self._is_kept = True
            raise self._failure.without_program(pod)

    def _keep_time(self, job: Job) -> None:
        """Log why the Job waits; raise when it waits, starts or runs for longer than it may."""
        pods = self._pods.now()
        clock = self._clock = self._clock or self._new_clock(job, pods)
        is_running = len(set(map(index_of, at_work(pods)))) >= self._resources.nodes
        waited = clock.seconds
        if clock.turn(is_running=is_running) and is_running:
            self._waiting.is_over()
            nodes = {pod.spec.node_name or "?" for pod in at_work(pods)}
            self._log(
                f"Job {self._name} runs on {', '.join(sorted(nodes))} after waiting for "
                f"{duration(waited)}"
            )
        is_restarting = self._gang.restart(pods, self._pods.gone())
        if is_running:
            self._limits.check_running(self._name, clock.running_seconds)
            return
        failures = max((self._failures(index_of(pod)) for pod in pods), default=0)
        is_settled = not failures or clock.seconds > SEEN_SECONDS  # its Job may be about to fail
        if is_settled and not is_restarting:
            self._waiting.look(job, pods, failures=failures, seconds=clock.seconds)
        if self._waiting.is_in_vain:
            raise self._deleted()
        self._limits.check_waiting(self._name, pods, clock.seconds, self._waiting.why)

    def _failures(self, index: int) -> int:
        """Return how many pods of an index of this Job have failed."""
        return sum(
            index_of(pod) == index and pod.status.phase == "Failed"
            for pod in self._seen_of_this_job()
        )

    def _new_clock(self, job: Job, pods: list[Pod]) -> Clock:
        """Return a clock that counts the time since the Job was created, if no pod has started."""
        if any(has_started(pod) for pod in [*pods, *self._pods.gone()]):
            return Clock(0)
        since_creation = datetime.now(UTC) - job.metadata.creation_timestamp
        return Clock(max(0.0, since_creation.total_seconds()))

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
                text = refusal(watched.trouble, is_known=not watched.is_unauthorized)
                goes_on = (
                    f"; Job {self._name} keeps running until the sensor orphaned_jobs stops it"
                )
                raise ConfigurationError(text + (goes_on if watched.is_unauthorized else ""))
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
        while time.monotonic() < deadline:
            if (pods := self._pods.now()) and all(map(has_ended, pods)):
                return
            self._pause()

    def _finish(self) -> None:
        """Pass on the last logs and messages."""
        self._follow_pods()
        self._logs.finish()
        self._messages.pass_on()

    def _deleted(self) -> DollyError:
        """Return what is left of a Job that was deleted, when its pods have ended, too."""
        since = time.monotonic()

        def are_saving() -> bool:
            left = [pod for pod in self._pods.now() if not has_ended(pod)]
            is_orphan = not any(pod.metadata.deletion_timestamp for pod in left)
            return bool(left) and not (is_orphan and time.monotonic() > since + ORPHAN_SECONDS)

        if are_saving():
            self._log(f"Job {self._name} was deleted; its pods save their state first")
        self._wait(are_saving)
        self._finish()
        stopped = self._messages.stopped
        state = stopped.text if stopped else "published epochs are kept, run again to resume"
        what = f"Job {self._name} was deleted"
        with contextlib.suppress(Exception):  # it only helps
            if self._api.is_ending():
                what = f"namespace {self._api.namespace} is being deleted, with Job {self._name}"
        return WorkerStopped(f"{what}: {state}")

    @property
    def _failure(self) -> Failure:
        return Failure(
            name=self._name,
            spec=self._spec,
            restarts=self._settings.restarts,
            pods=self._seen(),
            failures=self._messages.failures,
            logs=self._logs.last_lines,
        )


def _is_alive(job: Job) -> bool:
    return not ending(job) and not job.metadata.deletion_timestamp
