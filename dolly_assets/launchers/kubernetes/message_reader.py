"""The messages of a Job's worker, read from the store: passed on once, in order, if requested.

It knows messages and the epochs of a spec, not the cluster.
"""

import contextlib
from collections.abc import Callable

from dolly_assets.core.errors import ArtifactError
from dolly_assets.launchers.kubernetes.job import messages_of
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.message_store import new_messages
from dolly_assets.worker.messages import (
    Failed,
    Log,
    Message,
    Published,
    Stopped,
    Stopping,
    read_message,
)
from dolly_assets.worker.spec import Train, WorkerSpec


class MessageReader:
    """The messages of one Job.

    Args:
        spec: What was requested; other epochs that the Job trains are not passed on.
        job: Name of the Job.
        on_message: Called with each message.

    Attributes:
        failures: The errors that its ranks have ended with, and the names of their pods.
        stopped: Its last report of having saved its state and stopped.
    """

    def __init__(self, spec: WorkerSpec, job: str, on_message: Callable[[Message], None]) -> None:
        self._spec, self._on_message = spec, on_message
        self._store, self._prefix = ObjectStore(spec.store_url, spec.s3), messages_of(job)
        self._seen: set[str] = set()
        self._published: set[tuple[str, str]] = set()  # names and digests
        self.failures: list[tuple[str, Failed]] = []
        self.stopped: Stopped | None = None

    def pass_on(self) -> None:
        """Pass on new messages. A store that is unreachable is read the next time."""
        lines: list[tuple[str, bytes]] = []
        with contextlib.suppress(ArtifactError):
            lines.extend(new_messages(self._store, self._prefix, self._seen))
        for pod, line in lines:
            if message := read_message(line):
                self._take(pod, message)

    def _take(self, pod: str, message: Message) -> None:
        if isinstance(message, Failed):
            self.failures.append((pod, message))
        elif isinstance(message, Stopping):
            self._on_message(Log(text=message.text))
        elif isinstance(message, Stopped):
            self.stopped = message
            self._on_message(Log(text=message.text))
        elif not isinstance(message, Published) or self._is_wanted(message):
            self._on_message(message)

    def _is_wanted(self, message: Published) -> bool:
        """Return whether an artifact was requested and is new.

        A worker that restarts reports its earlier artifacts again.
        """
        task = self._spec.task
        artifact = (message.name, message.digest)  # two epochs may have the same content
        if artifact in self._published:
            return False
        self._published.add(artifact)
        if not isinstance(task, Train):
            return True
        return ArtifactAddress.parse(message.name).epoch in task.epochs
