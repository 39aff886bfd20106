"""What a worker says while it runs: log lines, artifacts published, that it stops, the error it ends with.

Messages travel as `dagster_pipes` custom messages, so that any pipes message reader can carry them.
"""

from typing import Annotated, Literal

from dagster_pipes import PipesContext
from pydantic import Field, TypeAdapter

from dolly_assets.core.base import Config
from dolly_assets.storage.artifact import Artifact


class Log(Config):
    """A line for the reader of the run."""

    event: Literal["log"] = "log"
    text: str


class Published(Config):
    """An artifact is whole in the store."""

    event: Literal["published"] = "published"
    name: str
    digest: str


class Live(Config):
    """The report of the running training is in the store, and is refreshed from now on."""

    event: Literal["live"] = "live"
    key: str = Field(description="Its key in the store.")


class Failed(Config):
    """The worker ends with an error."""

    event: Literal["failed"] = "failed"
    rank: int
    error: str = Field(description="What went wrong, in one paragraph.")
    by_user: bool = Field(
        description="True if the user can put it right, so that a traceback adds nothing."
    )


class Stopping(Config):
    """The worker was asked to stop, and saves where it is first."""

    event: Literal["stopping"] = "stopping"
    seconds: float = Field(description="What that takes at most.")


class Stopped(Config):
    """The worker ends because it was asked to, and has saved where it is."""

    event: Literal["stopped"] = "stopped"
    text: str = Field(description="Where it is.")


Message = Log | Published | Live | Failed | Stopping | Stopped
MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="event")])


class Messenger:
    """Sends messages to whoever follows the worker.

    Ranks other than 0 speak only of their failure.
    """

    def __init__(self, pipes: PipesContext, rank: int) -> None:
        self._pipes = pipes
        self._rank = rank

    def log(self, text: str) -> None:
        """A line for the reader of the run."""
        if self._rank == 0:
            self._send(Log(text=text))

    def published(self, artifact: Artifact) -> None:
        """Announces an artifact that is whole in the store."""
        self._send(Published(name=artifact.name, digest=artifact.digest))

    def live(self, key: str) -> None:
        """Announces the report that is refreshed while the training runs."""
        self._send(Live(key=key))

    def published_before(self, artifact: Artifact) -> None:
        """Announces once more, by one rank, what an earlier worker has put into the store."""
        if self._rank == 0:
            self.published(artifact)

    def failed(self, error: str, *, by_user: bool) -> None:
        """Announces the error that this rank ends with."""
        self._send(Failed(rank=self._rank, error=error, by_user=by_user))

    def stopping(self, seconds: float) -> None:
        """Announces that this worker saves where it is, and then ends."""
        if self._rank == 0:
            self._send(Stopping(seconds=seconds))

    def stopped(self, text: str) -> None:
        """Announces that this worker ends because it was asked to."""
        if self._rank == 0:
            self._send(Stopped(text=text))

    def _send(self, message: Message) -> None:
        self._pipes.report_custom_message(message.model_dump())
