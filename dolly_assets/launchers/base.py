"""The protocol that every launcher follows: run a worker for a spec, hand on what it says, return when it has ended."""

from collections.abc import Callable
from typing import Protocol

from dolly_assets.core.base import Config
from dolly_assets.worker.messages import Message
from dolly_assets.worker.spec import WorkerSpec


class Times(Config):
    """What a worker in a cluster took: told once, when it has ended, well or not."""

    job: str
    waiting_seconds: float
    running_seconds: float
    restarts: int


class Launcher(Protocol):
    """Starts workers and follows them."""

    def run(self, spec: WorkerSpec, on_message: Callable[[Message | Times], None]) -> None:
        """Runs a worker to its end.

        `on_message` is called in the caller's thread, in order, as messages arrive.

        Raises:
            WorkerStopped: Somebody asked the worker to stop, other than by interrupting this call.
            DollyError: The worker ended with an error that the user can put right.
            WorkerError: The worker ended with any other error; the text says where its log is.
        """
        ...
