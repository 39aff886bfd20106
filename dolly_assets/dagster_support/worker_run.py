"""What becomes of a worker's messages: log lines, events and published artifacts of a run."""

from collections.abc import Callable

import dagster as dg

from dolly_assets.dagster_support.interrupted_profiles import observe_live
from dolly_assets.dagster_support.run_context import observe_times
from dolly_assets.launchers.base import Times
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.messages import Live, Log, Message, Published
from dolly_assets.worker.spec import Train, WorkerSpec, has_task


class MessageHandler:
    """Handles the messages of one worker.

    Attributes:
        published: The artifacts that the worker has published.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        spec: WorkerSpec,
        store: ArtifactStore,
        on_published: Callable[[Artifact], None],
    ) -> None:
        self._context, self._spec, self._store = context, spec, store
        self._on_published = on_published
        self.published: list[Artifact] = []

    def __call__(self, message: Message | Times) -> None:
        """Handle a message."""
        if isinstance(message, Log):
            self._context.log.info(message.text)
        elif isinstance(message, Published):
            artifact = self._store.get(message.name, message.digest)
            self.published.append(artifact)
            self._on_published(artifact)
        elif isinstance(message, Live) and has_task(self._spec, Train):
            observe_live(self._context, self._spec, message.key)
        elif isinstance(message, Times):
            observe_times(self._context, self._spec, message)
