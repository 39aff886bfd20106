"""How long a Job may wait, start and run, by the deployment's settings."""

import time
from collections.abc import Sequence

from dolly_assets.core.errors import WorkerError
from dolly_assets.core.text import duration
from dolly_assets.launchers.kubernetes.pods import Pod, is_starting
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings


class Limits:
    """Raises when a Job has used up one of its limits; it is asked again and again."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._starting_since: float | None = None

    def check_running(self, job: str, seconds: float) -> None:
        """Raise when a Job has run for longer than `run_minutes`.

        Args:
            job: Its name.
            seconds: How long it has run in total.

        Raises:
            WorkerError: It has.
        """
        self._starting_since = None
        limit = self._settings.run_minutes
        if limit and seconds > 60 * limit:
            raise WorkerError(
                f"Job {job} has reached run_minutes ({duration(60 * limit)}); published "
                "epochs are kept, run again to resume"
            )

    def check_waiting(self, job: str, pods: Sequence[Pod], seconds: float, why: str) -> None:
        """Raise when a Job has waited for longer than `queue_minutes` or `start_minutes`.

        Args:
            job: Its name.
            pods: Its pods.
            seconds: How long it has been waiting.
            why: The reason.

        Raises:
            WorkerError: It has.
        """
        now = time.monotonic()
        self._starting_since = (self._starting_since or now) if is_starting(pods) else None
        queue_seconds = 60 * self._settings.queue_minutes
        start_seconds = 60 * self._settings.start_minutes
        if seconds > queue_seconds:
            what = f"has waited for {duration(queue_seconds)} (queue_minutes)"
        elif self._starting_since and now - self._starting_since > start_seconds:
            what = (
                f"was scheduled but did not start within {duration(start_seconds)} (start_minutes)"
            )
        else:
            return
        raise WorkerError(f"Job {job} {what}, giving up: {why}")
