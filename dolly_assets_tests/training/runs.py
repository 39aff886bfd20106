"""Fine-tunes in separate processes, since DeepSpeed has one state per process; torch is shared.

The Trainer, DeepSpeed and gloo on the CPU are real. The environment that torchrun would set is set
here.
"""

import multiprocessing
import os
import shutil
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dolly_assets.core.errors import TrainingStopped
from dolly_assets.training.checkpoint.snapshot import Snapshot
from dolly_assets.training.checkpoint.tensors import weights_sha256
from dolly_assets.training.loop.fine_tune import fine_tune
from dolly_assets.training.loop.meter import StepTotals
from dolly_assets.training.loop.observer import EpochResult, PartialState
from dolly_assets.training.loop.request import FineTuneRequest
from dolly_assets.training.loop.stop import StopRequest
from dolly_assets.training.process_group import leave_other_ranks, rank_and_size


@dataclass(frozen=True)
class Outcome:
    """What a rank saw of its training."""

    epochs: tuple[int, ...]
    steps: tuple[dict[str, Any], ...]  # of all ranks together, by column
    weights: Mapping[int, str]  # epoch -> digest of its weights
    states: Mapping[int, Path]  # step of the training -> folder of all ranks' state saved after it
    stopped: str | None  # where, if it was asked to stop
    lines: tuple[str, ...]  # what it logged
    work: tuple[StepTotals, ...]  # of each epoch
    examples: tuple[dict[str, Any], ...]  # each example's losses, of all ranks together, by column

    @property
    def losses(self) -> list[float]:
        return [step["loss"] for step in self.steps]


def processes() -> ProcessPoolExecutor:
    """Two processes at a time, a fresh one for each task, which train on the CPU."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dolly_assets_tests.training.preload"])
    return ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1)


class Runs:
    """Starts fine-tunes, each in fresh processes."""

    def __init__(self) -> None:
        self._pool = processes()

    def close(self) -> None:
        self._pool.shutdown()

    def start(
        self, job: FineTuneRequest, *, ranks: int = 1, ask_at: int | None = None, late: bool = False
    ) -> list[Future[Outcome]]:
        """One future for each rank.

        Args:
            job: What to train.
            ranks: How many processes.
            ask_at: The last rank is asked to stop when the state after this step is saved.
            late: Epochs are written after the first step of the next one, if there is one.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = {
            "WORLD_SIZE": ranks,
            "LOCAL_WORLD_SIZE": ranks,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        variables = [
            {
                name: str(value)
                for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()
            }
            for rank in range(ranks)
        ]
        return [
            self._pool.submit(
                _run, job, each if ranks > 1 else {}, ask_at if rank == ranks - 1 else None, late
            )
            for rank, each in enumerate(variables)
        ]

    def run(
        self, job: FineTuneRequest, *, ranks: int = 1, ask_at: int | None = None, late: bool = False
    ) -> Outcome:
        """Trains to the end; what rank 0 saw."""
        outcomes = [
            future.result(timeout=120)
            for future in self.start(job, ranks=ranks, ask_at=ask_at, late=late)
        ]
        assert all(outcome.losses == outcomes[0].losses for outcome in outcomes)
        assert all(outcome.stopped == outcomes[0].stopped for outcome in outcomes)
        assert all(outcome.examples == outcomes[0].examples for outcome in outcomes)
        return outcomes[0]


class _Recorder:
    """Follows a training and keeps all that it is given."""

    def __init__(self, ask_at: int | None) -> None:
        self.results: list[EpochResult] = []
        self.digests: dict[int, str] = {}
        self.states: dict[int, Path] = {}
        self.lines: list[str] = []
        self._wants_state = True
        self._ask_at = ask_at
        self._is_started = False

    def on_start(self, process_id: str) -> None:
        self._is_started = True

    def make_room(self) -> None:
        pass

    def on_epoch(self, result: EpochResult) -> None:
        assert self._is_started, "on_start comes before the first epoch"
        self.results.append(result)
        folder = _joined(result.snapshot)
        if rank_and_size()[0] == 0:
            self.digests[result.epoch] = weights_sha256(folder)

    def on_state(self, state: PartialState) -> None:
        folder = _joined(state.snapshot)
        step = int(folder.name.removeprefix("state-"))
        self.states[step] = folder
        if step == self._ask_at:
            signal.raise_signal(signal.SIGTERM)

    @property
    def wants_state(self) -> bool:
        return self._wants_state

    def stopping(self, step_seconds: float) -> None:
        self._wants_state = False

    def log(self, text: str) -> None:
        self.lines.append(text)

    def failed(self, text: str) -> None:
        raise AssertionError(text)

    def close(self) -> None:
        pass


class _LateRecorder(_Recorder):
    """Writes an epoch after the first step of the next one.

    A state in the middle would be of no use.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self._asked = 0  # since an epoch ended: once then, and after every step
        self._has_stepped = threading.Event()
        self._writer: threading.Thread | None = None

    @property
    def wants_state(self) -> bool:
        self._asked += 1
        if self._asked > 1:
            self._has_stepped.set()
        return False

    def on_epoch(self, result: EpochResult) -> None:
        self._asked = 0
        self._has_stepped.clear()
        self._writer = threading.Thread(target=self._write, args=(result,))
        self._writer.start()

    def _write(self, result: EpochResult) -> None:
        self._has_stepped.wait()
        super().on_epoch(result)

    def make_room(self) -> None:
        if self._writer:
            self._writer.join()

    def close(self) -> None:
        self._has_stepped.set()
        self.make_room()


def _joined(snapshot: Snapshot) -> Path:
    """Writes a snapshot and lays it beside those of the other ranks, as the store does."""
    folder = snapshot.write()
    whole = folder.with_name(folder.name.rpartition("-")[0])
    return Path(shutil.copytree(folder, whole, dirs_exist_ok=True))


def _run(
    job: FineTuneRequest, variables: Mapping[str, str], ask_at: int | None, late: bool
) -> Outcome:
    os.environ.update(variables)
    stop = StopRequest()
    stop.listen()
    recorder = _LateRecorder() if late else _Recorder(ask_at)
    stopped = None
    try:
        fine_tune(job, recorder, stop)
    except TrainingStopped as reason:
        stopped = str(reason)
    recorder.close()
    leave_other_ranks()
    results = recorder.results
    return Outcome(
        epochs=tuple(result.epoch for result in results),
        steps=tuple(step for result in results for step in result.steps.to_pylist()),
        weights=recorder.digests,
        states=recorder.states,
        stopped=stopped,
        lines=tuple(recorder.lines),
        work=tuple(result.work for result in results),
        examples=tuple(line for result in results for line in result.losses.to_pylist()),
    )


def jobs_of(
    job: FineTuneRequest, scratch: Path, batches: Sequence[tuple[int, int]]
) -> list[FineTuneRequest]:
    """The job with other (micro, global) batch sizes."""
    return [
        replace(
            job,
            recipe=job.recipe.model_copy(
                update={"micro_batch_size": micro, "global_batch_size": whole}
            ),
            scratch=scratch / f"{micro}-{whole}",
        )
        for micro, whole in batches
    ]
