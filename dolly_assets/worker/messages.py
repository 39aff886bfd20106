"""The messages of a worker: log lines, published artifacts, that it stops, the error it ends with.

They are custom messages of `dagster_pipes`, so any reader of its messages can receive them. How
they are transported this module doesn't know; what arrives may have been damaged or written by
something else, and then becomes a log line.
"""

import os
from typing import Annotated, Literal

from dagster_pipes import PipesContext
from pydantic import Field, TypeAdapter
from pydantic_core import from_json

from dolly_assets.core.base import Config
from dolly_assets.core.text import duration, encodable, flat, one_line
from dolly_assets.storage.artifact import Artifact

CUSTOM_MESSAGE = "report_custom_message"  # the method by which dagster_pipes carries ours
PROBLEM_LENGTH = 200
ECHO = "[dolly] "  # begins the lines of a pod's log that repeat messages, for `kubectl logs`


class Log(Config):
    """A line for the run's log."""

    event: Literal["log"] = "log"
    text: str


class Published(Config):
    """An artifact is complete in the store."""

    event: Literal["published"] = "published"
    name: str
    digest: str

    @property
    def text(self) -> str:
        """A line for a pod's log."""
        return f"published {self.name} ({self.digest[:12]})"


class Live(Config):
    """The report of the running training is in the store, and is refreshed from now on."""

    event: Literal["live"] = "live"
    key: str = Field(description="Key of the report in the store.")

    @property
    def text(self) -> str:
        """A line for a pod's log."""
        return f"live report: {self.key}"


class Failed(Config):
    """The worker ends with an error."""

    event: Literal["failed"] = "failed"
    rank: int
    error: str = Field(description="The error, in one paragraph.")
    by_user: bool = Field(
        description="Whether the user can fix it, so that a traceback adds nothing."
    )

    @property
    def text(self) -> str:
        """A line for a pod's log."""
        return f"rank {self.rank} failed: {self.error}"


class Stopping(Config):
    """The worker was asked to stop, and saves its state first."""

    event: Literal["stopping"] = "stopping"
    seconds: float = Field(ge=0, allow_inf_nan=False, description="How long saving takes at most.")

    @property
    def text(self) -> str:
        """A line for the run's log."""
        return f"stop requested: saving the state takes at most {duration(self.seconds)}"


class Stopped(Config):
    """The worker ends on request, and has saved its state."""

    event: Literal["stopped"] = "stopped"
    text: str = Field(description="Where the training has stopped.")


Message = Log | Published | Live | Failed | Stopping | Stopped
MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="event")])


def read_message(line: bytes) -> Message | None:
    """Return the message in a line of dagster_pipes; None for the protocol's own (opened, closed).

    A line that cannot be read must not end a training that runs: it is skipped, and the message
    returned says so.
    """
    try:
        # Stricter than json: without lone surrogates, which neither a log nor a page can encode.
        message = from_json(line)
        if message["method"] != CUSTOM_MESSAGE:
            return None
        return MESSAGE.validate_python(message["params"]["payload"])
    except (ValueError, LookupError, TypeError) as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return Log(
            text=f"skipped a message of {len(line)} bytes that is not a worker's: {kind}"
            f"{one_line(error, PROBLEM_LENGTH)}"
        )


class Messenger:
    """Sends messages to the launcher that follows the worker.

    Ranks other than 0 report only their failure. In a pod, where messages go to the store, each is
    a line of its log as well.

    Args:
        pipes: The connection.
        rank: The rank of this process.
    """

    def __init__(self, pipes: PipesContext, rank: int) -> None:
        self._pipes = pipes
        self._rank = rank

    def log(self, text: str) -> None:
        """Add a line to the run's log."""
        if self._rank == 0:
            self._send(Log(text=text))

    def emit_published(self, artifact: Artifact) -> None:
        """Report an artifact that is complete in the store."""
        self._send(Published(name=artifact.name, digest=artifact.digest))

    def emit_published_again(self, artifact: Artifact) -> None:
        """Report once more, from one rank, an artifact that an earlier worker has published."""
        if self._rank == 0:
            self.emit_published(artifact)

    def emit_live(self, key: str) -> None:
        """Report that the live report is in the store.

        Args:
            key: Key of the report in the store.
        """
        self._send(Live(key=key))

    def emit_failed(self, error: str, *, by_user: bool) -> None:
        """Report the error that this rank ends with.

        Args:
            error: The error, in one paragraph.
            by_user: Whether the user can fix it.
        """
        self._send(Failed(rank=self._rank, error=error, by_user=by_user))

    def emit_stopping(self, seconds: float) -> None:
        """Report that this worker saves its state and then ends.

        Args:
            seconds: How long that takes at most.
        """
        if self._rank == 0:
            self._send(Stopping(seconds=seconds))

    def emit_stopped(self, text: str) -> None:
        """Report that this worker ends on request.

        Args:
            text: Where the training has stopped.
        """
        if self._rank == 0:
            self._send(Stopped(text=text))

    def _send(self, message: Message) -> None:
        if "DOLLY_POD" in os.environ:
            print(f"{ECHO}{flat(message.text)}", flush=True)  # noqa: T201 the pod's log
        self._pipes.report_custom_message(
            {
                key: encodable(value) if isinstance(value, str) else value
                for key, value in message.model_dump().items()
            }
        )
