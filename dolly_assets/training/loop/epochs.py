"""What happens between the Trainer's steps: they are collected, guarded, and at the right ones the state is saved.

Epochs are handed over when they end, as copies in memory. A request to stop is looked at after
every step and every save; the ranks agree on it, so that all of them leave after the same step.
"""

import enum
import json
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dolly_assets.core.errors import TrainingStopped
from dolly_assets.training.checkpoint.snapshot import Snapshot, Snapshots
from dolly_assets.training.loop.guards import Guards
from dolly_assets.training.loop.meter import STEP_PHASES, StepMeter, StepTotals
from dolly_assets.training.loop.steps import Step
from dolly_assets.training.loop.stop import StopRequest
from dolly_assets.training.loop.watchdog import Watchdog
from dolly_assets.training.process_group import HostGroup, rank_and_size, wait_for_all_ranks

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from dolly_assets.training.loop.fine_tune import FineTune

PROGRESS_SECONDS = 5.0
PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class Progress:
    """The part of an epoch that is done: what its figures need when the rest is trained by another process."""

    steps: tuple[Step, ...] = ()
    seconds: float = 0.0  # of training, saving not counted
    saving_seconds: float = 0.0
    work: StepTotals = field(default_factory=StepTotals)

    def write(self, folder: Path) -> None:
        """Writes it beside a saved state."""
        (folder / PROGRESS_FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path | None) -> "Progress":
        """Of the state in a folder; none if that is the state of an epoch's end."""
        file = folder / PROGRESS_FILE if folder else None
        if file is None or not file.is_file():
            return cls()
        document = json.loads(file.read_text())
        return cls(
            steps=tuple(Step(**step) for step in document["steps"]),
            seconds=document["seconds"],
            saving_seconds=document["saving_seconds"],
            work=StepTotals(**document["work"]),
        )


@dataclass(frozen=True)
class EpochResult:
    """A finished epoch: this rank's part of its checkpoint and what it took."""

    epoch: int
    snapshot: Snapshot
    started_at: float  # in this process, seconds since the Unix epoch
    ended_at: float
    training_seconds: float  # in all processes that trained a part of it
    saving_seconds: float  # in them, while no step was made
    steps: tuple[Step, ...]
    work: StepTotals  # of its steps
    real_tokens: int  # of the examples trained on, padding not counted
    utilization: (
        float | None
    )  # of the devices' arithmetic while it trained (MFU); None if it is not known

    @property
    def loss(self) -> float:
        """Mean training loss of the epoch's steps, in nats per labelled token."""
        return math.fsum(step.loss for step in self.steps) / len(self.steps)

    @property
    def tokens_per_second(self) -> float:
        """Real tokens per second, saving and evaluation not counted."""
        return self.real_tokens / self.training_seconds


@dataclass(frozen=True)
class PartialState:
    """What a training needs to go on in the middle of an epoch."""

    epoch: int
    step: int  # of the epoch, from 1
    steps: int  # that the epoch has
    snapshot: Snapshot  # this rank's part of what the Trainer resumes from
    saving_seconds: float


class TrainingObserver(Protocol):
    """Whoever follows a training.

    On every rank, all of it is called at the same points of the training.
    """

    def on_start(self, process_id: str) -> None:
        """The model is loaded; the first step is about to begin.

        The id is this process's and all other ranks'.
        """

    def make_room(self) -> None:
        """A snapshot is about to be taken: returns when the last one isn't needed any more."""

    def on_epoch(self, result: EpochResult) -> None:
        """An epoch has ended.

        The callee writes its snapshot, in any thread, and deletes the folder.
        """

    def on_state(self, state: PartialState) -> None:
        """In the middle of an epoch, a snapshot to write likewise."""

    @property
    def wants_state(self) -> bool:
        """Whether another state would be of use now: not while the last one is still being published."""
        ...

    def stopping(self, step_seconds: float) -> None:
        """The ranks were asked to stop: after this step, which usually takes so long.

        Called in another thread.
        """

    def log(self, text: str) -> None:
        """A line for the reader of the run."""

    def failed(self, text: str) -> None:
        """The reason why this process is about to end."""


class _Next(enum.IntEnum):
    """What ranks do after a step. The largest that one of them asks for counts."""

    STEP = 0
    SAVE = 1
    STOP = 2


class Epochs:
    """The course of one training, from the first epoch of the job to its last."""

    def __init__(
        self,
        job: "FineTune",
        follower: TrainingObserver,
        stop: StopRequest,
        *,
        real_tokens: Callable[[], int],
        meter: StepMeter,
        snapshots: Snapshots,
        kernels: Callable[[], str],
    ) -> None:
        """Takes how to count the real tokens of the epoch that trains, what measures and what copies the training.

        And what names the kernels in use, once training begins.
        """
        self._job, self._follower, self._stop = job, follower, stop
        self._real_tokens, self._meter, self._snapshots, self._kernels = (
            real_tokens,
            meter,
            snapshots,
            kernels,
        )
        self._epoch = job.first_epoch
        self._before = Progress.read(
            job.resume_from
        )  # what was done of the epoch when its state was saved last
        self._steps = list(self._before.steps)
        self._work, self._saving_seconds = self._before.work, self._before.saving_seconds
        self._guards = Guards(job.recipe.guards)
        self._watchdog = Watchdog(job.hang_seconds, follower.failed)
        self._hosts = HostGroup()
        self._started_at = self._logged_at = self._saved_at = 0.0

    def begin(self) -> None:
        """The model is loaded."""
        self._stop.defer(lambda: self._follower.stopping(self._watchdog.usual_seconds))
        wait_for_all_ranks()  # none of them leaves at once from here on
        self._follower.log(self._kernels())
        self._follower.on_start(f"{self._hosts.of_first(secrets.randbits(62)):x}")
        self._watchdog.step()

    def begin_epoch(self) -> None:
        """The first step of this process in an epoch is about to begin."""
        self._started_at = self._logged_at = self._saved_at = time.time()

    def step_done(self, step: Step, steps_per_epoch: int, *, overflowed: bool) -> None:
        """Raises TrainingStopped if the ranks were asked to stop, TrainingError if a guard ends the training."""
        self._watchdog.step()
        self._steps.append(step)
        self._snapshots.reserve(self._folder("reserve"))
        if warning := self._guards.check(step, epoch=self._epoch, overflowed=overflowed):
            self._follower.log(warning)
        if step.ended_at - self._logged_at >= PROGRESS_SECONDS:
            self._logged_at = step.ended_at
            self._follower.log(self._progress_line(steps_per_epoch))
        upcoming = self._agree()
        if (
            upcoming == _Next.STEP or len(self._steps) == steps_per_epoch
        ):  # the end of an epoch is saved anyway
            return
        self._watchdog.pause()
        self._save_partly(steps_per_epoch)
        if upcoming == _Next.STOP:
            raise TrainingStopped(self._epoch, len(self._steps), steps_per_epoch)
        self._watchdog.step()

    def end_epoch(self) -> bool:
        """Hands the epoch over; returns whether it was the last one.

        Raises:
            TrainingStopped: The ranks were asked to stop, and something is left.
        """
        self._watchdog.pause()
        ended_at = time.time()
        snapshot = self._snapshot(f"checkpoint-{self._steps[-1].step}", weights=True)
        self._work += self._meter.take()
        self._saving_seconds += time.time() - ended_at
        seconds = self._seconds(ended_at)
        if not snapshot.in_memory:
            self._follower.log(
                "host memory is too small for a copy of the state: training waited for it to be written"
            )
        self._follower.on_epoch(
            EpochResult(
                epoch=self._epoch,
                snapshot=snapshot,
                started_at=self._started_at,
                ended_at=ended_at,
                training_seconds=seconds,
                saving_seconds=self._saving_seconds,
                steps=tuple(self._steps),
                work=self._work,
                real_tokens=self._real_tokens(),
                utilization=self._meter.utilization(self._work.flops, seconds * rank_and_size()[1]),
            )
        )
        steps = len(self._steps)
        self._epoch += 1
        self._steps, self._before = [], Progress()
        self._work, self._saving_seconds = StepTotals(), 0.0
        if self._epoch > self._job.last_epoch:
            return True
        if self._agree() == _Next.STOP:
            raise TrainingStopped(self._epoch, 0, steps)
        self._watchdog.step()
        return False

    def close(self) -> None:
        """The training is over, however it ended."""
        self._watchdog.pause()

    def _agree(self) -> _Next:
        is_due = time.time() - self._saved_at >= self._job.save_seconds
        wanted = (
            _Next.STOP
            if self._stop.is_requested
            else _Next(int(is_due and self._follower.wants_state))
        )
        return _Next(self._hosts.largest(wanted))

    def _save_partly(self, steps_per_epoch: int) -> None:
        began = time.time()
        snapshot = self._snapshot(f"state-{self._steps[-1].step}", weights=False)
        self._work += self._meter.take()
        self._saved_at = time.time()
        seconds = self._saved_at - began
        self._saving_seconds += seconds
        if rank_and_size()[0] == 0:
            done = Progress(
                tuple(self._steps), self._seconds(began), self._saving_seconds, self._work
            )
            done.write(snapshot.folder)
        self._follower.on_state(
            PartialState(self._epoch, len(self._steps), steps_per_epoch, snapshot, seconds)
        )
        self._before = replace(self._before, seconds=self._before.seconds - seconds)

    def _snapshot(self, name: str, *, weights: bool) -> Snapshot:
        self._follower.make_room()
        return self._snapshots.take(self._folder(name), weights=weights)

    def _folder(self, name: str) -> Path:
        return self._job.scratch / f"{name}-rank{rank_and_size()[0]}"

    def _seconds(self, until: float) -> float:
        return self._before.seconds + until - self._started_at

    def _progress_line(self, steps_per_epoch: int) -> str:
        done, here = len(self._steps), len(self._steps) - len(self._before.steps)
        elapsed = self._steps[-1].ended_at - self._started_at
        rate = self._real_tokens() * here / steps_per_epoch / elapsed
        left = elapsed / here * (steps_per_epoch - done)
        step, peak = self._meter.latest, self._meter.latest.memory_peak_bytes or 0
        lasted = step.ended_at - step.started_at
        shares = ", ".join(
            f"{getattr(step, f'{phase}_seconds') / lasted:.0%} {phase}" for phase in STEP_PHASES
        )
        utilization = self._meter.utilization(step.flops, lasted)
        return (
            f"epoch {self._epoch} of {self._job.first_epoch}-{self._job.last_epoch}: step {done}/{steps_per_epoch}, "
            f"loss {self._steps[-1].loss:.3f}, {rate:,.0f} tokens/s, {left:.0f} s left in this epoch; "
            f"here a step of {lasted:.2f} s ({shares}), {step.processed_tokens / step.real_tokens:.3f} processed/real "
            f"tokens, {step.flops / lasted / 1e12:,.3g} TFLOP/s{f', MFU {utilization:.0%}' if utilization else ''}, "
            f"peak memory {peak / 1e9:.2f} GB"
        )


def as_callback(epochs: Epochs, overflowed: Callable[[], bool]) -> "TrainerCallback":
    """The epochs as the Trainer's callback.

    Every step is logged by it, before anything is saved.
    """
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            epochs.begin()

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % _steps_per_epoch(state) == 0:
                state.log_history.clear()  # an epoch's steps are published beside it
            epochs.begin_epoch()

        def on_log(
            self,
            args: Any,
            state: Any,
            control: Any,
            logs: dict[str, float] | None = None,
            **_: Any,
        ) -> None:
            if logs and "loss" in logs:
                grad_norm = float(logs.get("grad_norm", 0.0))
                step = Step(
                    state.global_step, logs["loss"], logs["learning_rate"], grad_norm, time.time()
                )
                epochs.step_done(step, _steps_per_epoch(state), overflowed=overflowed())

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = epochs.end_epoch()

    return Callback()


def _steps_per_epoch(state: Any) -> int:
    return round(state.max_steps / state.num_train_epochs)
