"""What happens between the Trainer's steps: they are collected and checked, and states are saved.

Epochs are handed over when they end, as copies in memory. After every step and every save the
ranks agree on whether to stop, so that all of them leave after the same step.
"""

import enum
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dolly_assets.core.errors import TrainingStopped
from dolly_assets.core.text import duration, memory_size, percent
from dolly_assets.profiling.series.steplog import STEP_PHASES
from dolly_assets.profiling.series.throughput import tokens_per_second
from dolly_assets.training.checkpoint.snapshot import Snapshot, Snapshots
from dolly_assets.training.loop.example_losses import ExampleLosses
from dolly_assets.training.loop.guards import Guards
from dolly_assets.training.loop.meter import StepMeter, StepTotals
from dolly_assets.training.loop.observer import EpochResult, PartialState, TrainingObserver
from dolly_assets.training.loop.progress import Progress
from dolly_assets.training.loop.request import FineTuneRequest
from dolly_assets.training.loop.stop import StopRequest
from dolly_assets.training.loop.watchdog import Watchdog
from dolly_assets.training.process_group import HostGroup, rank_and_size, wait_for_all_ranks

if TYPE_CHECKING:
    from transformers import TrainerCallback

PROGRESS_SECONDS = 5.0


class _Next(enum.IntEnum):
    """What the ranks do after a step. The largest value that any rank votes for wins."""

    STEP = 0
    SAVE = 1
    STOP = 2


class Epochs:
    """The course of one training, from the first requested epoch to the last."""

    def __init__(
        self,
        request: FineTuneRequest,
        observer: TrainingObserver,
        stop: StopRequest,
        *,
        real_tokens: Callable[[], int],
        meter: StepMeter,
        losses: ExampleLosses,
        snapshots: Snapshots,
        kernels: Callable[[], str],
        held_out_loss: Callable[[], float] | None = None,
    ) -> None:
        """Prepare to follow a training.

        Args:
            request: What is trained.
            observer: Who gets epochs, states and lines for the log.
            stop: Whether this process was asked to stop.
            real_tokens: Returns the real tokens of the epoch that is being trained.
            meter: Measures the steps.
            losses: Has the losses of the examples.
            snapshots: Copies the state.
            kernels: Returns the kernels in use, once training has begun.
            held_out_loss: Returns the held-out loss of the present weights; every rank calls it.
        """
        self._request, self._observer, self._stop = request, observer, stop
        self._real_tokens, self._meter, self._losses = real_tokens, meter, losses
        self._snapshots, self._kernels = snapshots, kernels
        self._held_out_loss, self._held_out_losses = held_out_loss, {**request.held_out_losses}
        self._epoch = request.first_epoch
        # What was done of the epoch when its state was saved last.
        self._before = Progress.read(request.resume_from)
        self._steps, self._work = self._before.steps, self._before.work  # until the last save
        self._of_examples = self._before.losses
        self._saving_seconds = self._before.saving_seconds
        self._done = self._steps.num_rows  # steps of the epoch
        self._guards = Guards(request.recipe.guards)
        self._watchdog = Watchdog(request.hang_seconds, observer.failed)
        self._hosts = HostGroup()
        self._started_at = self._logged_at = self._saved_at = 0.0

    def begin(self) -> None:
        """Start: the model is loaded, and requests to stop are deferred from here on."""
        self._stop.defer(lambda: self._observer.stopping(self._watchdog.usual_seconds))
        wait_for_all_ranks()  # from here on no rank leaves before the others
        self._observer.log(self._kernels())
        self._observer.on_start(f"{self._hosts.of_first(secrets.randbits(62)):x}")
        self._watchdog.step()

    def begin_epoch(self) -> None:
        """Start the clock of an epoch, before this process's first step in it."""
        self._started_at = self._logged_at = self._saved_at = time.time()

    def step_done(self, loss: float, steps_per_epoch: int, *, overflowed: bool) -> None:
        """Check the step that the meter measured last, and save or stop after it where that is due.

        Args:
            loss: The loss of the step.
            steps_per_epoch: How many steps an epoch has.
            overflowed: Whether its gradients overflowed, so that the weights did not change.

        Raises:
            TrainingStopped: The ranks were asked to stop.
            TrainingError: A guard ends the training.
        """
        self._watchdog.step()
        self._done += 1
        step = self._meter.latest
        self._snapshots.reserve(self._folder("reserve"))
        if warning := self._guards.check(step.step, loss, epoch=self._epoch, overflowed=overflowed):
            self._observer.log(warning)
        if step.ended_at - self._logged_at >= PROGRESS_SECONDS:
            self._logged_at = step.ended_at
            self._observer.log(self._progress_line(loss, steps_per_epoch))
        upcoming = self._agree()
        is_last = self._done == steps_per_epoch  # the end of an epoch is saved anyway
        if upcoming == _Next.STEP or is_last:
            return
        self._watchdog.pause()
        self._save_partly(steps_per_epoch)
        if upcoming == _Next.STOP:
            raise TrainingStopped(self._epoch, self._done, steps_per_epoch)
        self._watchdog.step()

    def end_epoch(self) -> bool:
        """Hand the epoch over, and return whether it was the last one.

        Raises:
            TrainingStopped: The ranks were asked to stop, and epochs are left.
        """
        self._watchdog.pause()
        ended_at = time.time()
        snapshot = self._snapshot(f"checkpoint-{self._meter.latest.step}", weights=True)
        self._take_steps()
        self._saving_seconds += time.time() - ended_at
        seconds = self._seconds(ended_at)
        self._score_held_out()
        if not snapshot.in_memory:
            self._observer.log(
                "host memory is too small for a copy of the state: training waited until it was "
                "written"
            )
        self._observer.on_epoch(
            EpochResult(
                epoch=self._epoch,
                snapshot=snapshot,
                started_at=self._started_at,
                ended_at=ended_at,
                training_seconds=seconds,
                saving_seconds=self._saving_seconds,
                steps=self._steps,
                losses=self._of_examples,
                work=self._work,
                real_tokens=self._real_tokens(),
                utilization=self._meter.utilization(self._work.flops, seconds * rank_and_size()[1]),
                held_out_loss=self._held_out_losses.get(self._epoch),
            )
        )
        return self._next_epoch()

    def _score_held_out(self) -> None:
        """Compute the epoch's held-out loss, if early stopping needs it, the same on all ranks."""
        if self._held_out_loss:
            [loss] = self._hosts.maximum(np.array([self._held_out_loss()]))
            self._held_out_losses[self._epoch] = float(loss)
            self._observer.log(f"epoch {self._epoch}: held-out loss {loss:.4f}")

    def _has_stopped_early(self) -> bool:
        rule = self._request.recipe.early_stopping
        verdict = rule.verdict(self._held_out_losses) if rule else None
        if verdict:
            self._observer.log(verdict.sentence)
        return verdict is not None

    def close(self) -> None:
        """End the watch over the training, however it ended."""
        self._watchdog.pause()

    def _next_epoch(self) -> bool:
        """Reset for the next epoch; return whether there is none."""
        steps = self._done
        self._epoch += 1
        self._before = Progress()
        self._steps, self._work = self._before.steps, self._before.work
        self._of_examples = self._before.losses
        self._done, self._saving_seconds = 0, 0.0
        if self._has_stopped_early() or self._epoch > self._request.last_epoch:
            return True
        if self._agree() == _Next.STOP:
            raise TrainingStopped(self._epoch, 0, steps)
        self._watchdog.step()
        return False

    def _agree(self) -> _Next:
        is_due = time.time() - self._saved_at >= self._request.save_seconds
        vote = (
            _Next.STOP
            if self._stop.is_requested
            else _Next(int(is_due and self._observer.wants_state))
        )
        return _Next(self._hosts.largest(vote))

    def _save_partly(self, steps_per_epoch: int) -> None:
        began = time.time()
        snapshot = self._snapshot(f"state-{self._meter.latest.step}", weights=False)
        self._take_steps()
        self._saved_at = time.time()
        seconds = self._saved_at - began
        self._saving_seconds += seconds
        if rank_and_size()[0] == 0:
            done = Progress(
                self._steps,
                self._seconds(began),
                self._saving_seconds,
                self._work,
                self._of_examples,
            )
            done.write(snapshot.folder)
        self._observer.on_state(
            PartialState(self._epoch, self._done, steps_per_epoch, snapshot, seconds)
        )
        self._before = replace(self._before, seconds=self._before.seconds - seconds)

    def _take_steps(self) -> None:
        taken = self._meter.take(self._hosts)
        self._steps = pa.concat_tables([self._steps, taken])
        self._work += StepTotals.of(taken)
        self._of_examples = pa.concat_tables([self._of_examples, self._losses.take(self._hosts)])

    def _snapshot(self, name: str, *, weights: bool) -> Snapshot:
        self._observer.make_room()
        return self._snapshots.take(self._folder(name), weights=weights)

    def _folder(self, name: str) -> Path:
        return self._request.scratch / f"{name}-rank{rank_and_size()[0]}"

    def _seconds(self, until: float) -> float:
        return self._before.seconds + until - self._started_at

    def _progress_line(self, loss: float, steps_per_epoch: int) -> str:
        step, done = self._meter.latest, self._done
        tokens = self._real_tokens() * done / steps_per_epoch
        rate = tokens_per_second(tokens, self._seconds(step.ended_at))
        done_here = done - self._before.steps.num_rows
        left = (step.ended_at - self._started_at) / done_here * (steps_per_epoch - done)
        seconds = step.ended_at - step.started_at
        shares = ", ".join(
            f"{percent(getattr(step, f'{phase}_seconds') / seconds)} {phase}"
            for phase in STEP_PHASES
        )
        utilization = self._meter.utilization(step.flops, seconds)
        parts = [
            f"epoch {self._epoch} of {self._request.first_epoch}-{self._request.last_epoch}: "
            f"step {done}/{steps_per_epoch}",
            f"loss {loss:.3f}",
            f"{rate:,.0f} tokens/s",
            f"{duration(left)} left in this epoch; on rank {step.rank}: step of {seconds:.2f} s "
            f"({shares})",
            f"{step.processed_tokens / step.real_tokens:.3f} processed per real token",
        ]
        if step.flops:
            parts.append(f"{step.flops / seconds / 1e12:,.3g} TFLOP/s")
        if utilization:
            parts.append(f"MFU {percent(utilization)}")
        if step.peak_rank_memory_bytes:
            parts.append(f"peak memory {memory_size(step.peak_rank_memory_bytes)}")
        return ", ".join(parts)


def as_callback(epochs: Epochs, overflowed: Callable[[], bool]) -> "TrainerCallback":
    """Return the epochs as a callback of the Trainer.

    The Trainer logs every step before it saves anything.

    Args:
        epochs: Gets the events.
        overflowed: Returns whether the gradients of the last step overflowed.
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
                epochs.step_done(logs["loss"], _steps_per_epoch(state), overflowed=overflowed())

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = epochs.end_epoch()

    return Callback()


def _steps_per_epoch(state: Any) -> int:
    return round(state.max_steps / state.num_train_epochs)
