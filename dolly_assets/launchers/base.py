"""The protocol of launchers: run a worker for a spec, pass on its messages, return when it ends.

It knows no process and no cluster.
"""

from collections.abc import Callable
from typing import Protocol

from dolly_assets.core.base import Config
from dolly_assets.worker.messages import Message
from dolly_assets.worker.spec import WorkerSpec


class Times(Config):
    """How long a worker in a cluster waited and ran; emitted once, when it has ended."""

    job: str
    waiting_seconds: float
    running_seconds: float
    restarts: int


class Launcher(Protocol):
    """Starts workers and follows them."""

    def run(self, spec: WorkerSpec, on_message: Callable[[Message | Times], None]) -> None:
        """Run a worker to its end.

        Args:
            spec: What the worker is to do.
            on_message: Called in the caller's thread, in order, as messages arrive.

        Raises:
            WorkerStopped: The worker was asked to stop, other than by interrupting this call.
            DollyError: The worker ended with an error that the user can fix.
            WorkerError: The worker ended with any other error; the message names its log.
        """
        ...
