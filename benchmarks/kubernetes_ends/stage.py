"""Where one end is brought about, and what is measured of it.

It knows no particular end, and not on which cluster it is.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dolly_assets.core.errors import WorkerStopped
from dolly_assets.launchers.base import Times
from dolly_assets.worker.messages import Log
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.kubernetes.hands import Hand

AnyHand = TypeVar("AnyHand", bound=Hand)


@dataclass
class Stage(Generic[AnyHand]):
    """A cluster, a training in it, and the moments at which things happened.

    Attributes:
        hand: What disturbs the cluster.
        trainings: The runs, first the one that is disturbed.
        happened: When it happened.
        removed: When its cause was removed, if that was done.
        back: When the training was at work again.
        ended: When it had ended.
        lines: What the runs said, and when.
    """

    hand: AnyHand
    trainings: list[Directed] = field(default_factory=list)
    happened: float = 0.0
    removed: float | None = None
    back: float | None = None
    ended: float = 0.0
    lines: list[tuple[float, str]] = field(default_factory=list)

    def training(self, **options: Any) -> Directed:
        """Return a training that is not begun."""
        also = options.pop("on_message", lambda _: None)

        def heard(message: object) -> None:
            if isinstance(message, Log):
                self.lines.append((time.monotonic(), message.text))
            also(message)

        self.trainings.append(self.hand.training(**options, on_message=heard))
        return self.trainings[-1]

    def in_epoch_2(self, **options: Any) -> Directed:
        """Return a training that has trained its first epoch, and is in the second."""
        training = self.training(**options)
        training.agree()
        training.let(1)
        training.start()
        self.wait(lambda: training.published == ["01"])
        training.wait("begun", 2, times=training.spec.family.compute.nodes)
        self.wait(lambda: " runs on " in training.log)
        return training

    def wait(self, happened: Callable[[], object]) -> None:
        """Return when it has happened."""
        self.hand.cluster.wait(happened)

    def hears(self, pattern: str) -> None:
        """Return when a run has said what this pattern finds, since it happened."""
        self.wait(
            lambda: any(
                at > self.happened and re.search(pattern, line) for at, line in [*self.lines]
            )
        )

    def now(self) -> None:
        """Note that it happens."""
        self.happened = time.monotonic()

    def remove(self) -> None:
        """Remove the cause, such as a node that does not answer."""
        self.hand.release()
        self.removed = time.monotonic()

    def is_back(self, training: Directed, epoch: int = 2, times: int = 2) -> None:
        """Wait until all pods are at work again."""
        pods = training.spec.family.compute.nodes
        training.wait("begun", epoch, times=times * pods)
        self.back = time.monotonic()

    def resumes(self, training: Directed) -> str:
        """Let it end when it is at work again, and return how it ends."""
        self.is_back(training)
        return self.completes(training)

    def completes(self, training: Directed) -> str:
        """Let it end, and return how it does."""
        training.let()
        return self.end(training)

    def end(self, training: Directed) -> str:
        """Return how a training ends."""
        error = training.end()
        self.ended = time.monotonic()
        if error:
            self.lines.append((self.ended, str(error)))
            kinds = {KeyboardInterrupt: "cancelled", WorkerStopped: "stopped"}
            return kinds.get(type(error), "failed")
        times = [item.restarts for item in training.messages if isinstance(item, Times)]
        restarts = times[-1] if times else 0  # its Job had ended before
        return f"done, {restarts} restart{'s' * (restarts > 1)}" if restarts else "done"

    def sentence(self, says: str) -> tuple[float, str] | None:
        """Return the first line since then that matches, and when it was logged."""
        for at, text in self.lines:
            if at >= self.happened and (found := re.search(says, text)):
                # An error is followed by the last lines of a log.
                return at, text[: text.find("\n", found.end())] if "\n" in text else text
        return None

    def epochs_lost(self) -> int:
        """Return how many epochs were trained, and are not in the store."""
        training = self.trainings[0]
        trained = [epoch for epoch in training.epochs if training.times("trained", epoch)]
        return sum(not training.history(epoch) for epoch in trained)

    def epochs_trained_twice(self) -> int:
        """Return how many were, by any pod of the same index."""
        training = self.trainings[0]
        nodes = training.spec.family.compute.nodes
        return sum(max(0, training.times("trained", epoch) - nodes) for epoch in training.epochs)


@dataclass(frozen=True)
class End(Generic[AnyHand]):
    """One end, and how it should be.

    Attributes:
        name: What happens.
        bring_about: Brings it about and returns the outcome.
        outcome: The outcome that is right.
        says: A pattern of the sentence by which the user learns of it; None if there is no need.
    """

    name: str
    bring_about: Callable[[Stage[AnyHand]], str]
    outcome: str
    says: str | None
