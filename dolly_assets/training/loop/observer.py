"""What a training hands over as it runs, and to whom: finished epochs, states, and lines to log.

It knows neither the Trainer nor the store.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from dolly_assets.profiling.series.throughput import tokens_per_second
from dolly_assets.training.checkpoint.snapshot import Snapshot
from dolly_assets.training.loop.meter import StepTotals


@dataclass(frozen=True)
class EpochResult:
    """A finished epoch: this rank's part of its checkpoint, and what it took.

    Attributes:
        epoch: The epoch, counted from 1.
        snapshot: This rank's part of the checkpoint.
        started_at: When this process began with it, in seconds since the Unix epoch.
        ended_at: When its last step ended.
        training_seconds: Training time in all processes that trained a part of it, without saving.
        saving_seconds: Time in them during which training waited for a save.
        steps: Its optimizer steps, of all ranks together, with the columns of STEP_SCHEMA.
        losses: The loss of every example, with the columns of EXAMPLE_LOSSES_SCHEMA. Examples of
            steps before a state of an earlier version are missing.
        work: Totals over its steps.
        real_tokens: Tokens of the examples trained on, without padding.
        utilization: Share of the devices' peak arithmetic (MFU); None if it is not known.
        held_out_loss: Nats per labelled held-out token; None if it was not computed.
    """

    epoch: int
    snapshot: Snapshot
    started_at: float
    ended_at: float
    training_seconds: float
    saving_seconds: float
    steps: pa.Table
    losses: pa.Table
    work: StepTotals
    real_tokens: int
    utilization: float | None
    held_out_loss: float | None = None

    @property
    def loss(self) -> float:
        """Mean training loss of the epoch's steps, in nats per labelled token."""
        return math.fsum(self.steps["loss"].to_pylist()) / self.steps.num_rows

    @property
    def tokens_per_second(self) -> float:
        """Real tokens per second of training time; see `profiling.series.throughput`."""
        return tokens_per_second(self.real_tokens, self.training_seconds)


@dataclass(frozen=True)
class PartialState:
    """What a training needs to resume in the middle of an epoch.

    Attributes:
        epoch: The epoch, counted from 1.
        step: The last step of the epoch that is done, from 1.
        steps: How many steps the epoch has.
        snapshot: This rank's part of what the Trainer resumes from.
        saving_seconds: How long training waited for it.
    """

    epoch: int
    step: int
    steps: int
    snapshot: Snapshot
    saving_seconds: float


class TrainingObserver(Protocol):
    """The caller's side of a training. Every rank has one.

    All ranks call each method at the same point of the training, unless it states otherwise.
    """

    def on_start(self, process_id: str) -> None:
        """Handle the start: the model is loaded, and the first step is about to begin.

        Args:
            process_id: An id of this run of the processes, the same on all ranks.
        """

    def make_room(self) -> None:
        """Return when the last snapshot is no longer needed: another one is about to be taken."""

    def on_epoch(self, result: EpochResult) -> None:
        """Handle the end of an epoch: write its snapshot, in any thread, and delete the folder."""

    def on_state(self, state: PartialState) -> None:
        """Handle a state in the middle of an epoch; its snapshot is written in the same way."""

    @property
    def wants_state(self) -> bool:
        """Whether another state would be useful: not while the last one is being published."""
        ...

    def stopping(self, step_seconds: float) -> None:
        """Handle a request to stop after the current step. It is called in another thread.

        Args:
            step_seconds: How long a step usually takes.
        """

    def log(self, text: str) -> None:
        """Log a line for the reader of the run."""

    def failed(self, text: str) -> None:
        """Report why this process is about to end. It may be called in another thread."""
