"""Fine-tunes in processes of their own, since DeepSpeed's state is one per process; torch is imported once for all.

Real are the Trainer, DeepSpeed and gloo on the CPU. What torchrun would put into the environment, we put there.
"""

import multiprocessing
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from dolly_assets.errors import TrainingStopped
from dolly_assets.training.epochs import EpochResult, PartialState
from dolly_assets.training.fine_tune import FineTune, fine_tune
from dolly_assets.training.process_group import leave_other_ranks
from dolly_assets.training.steps import Step
from dolly_assets.training.stop import StopRequest
from dolly_assets.training.tensors import weights_sha256

WORKER = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "DS_LOG_LEVEL": "error"}


@dataclass(frozen=True)
class Outcome:
    """What a rank saw of its training."""

    epochs: tuple[int, ...]
    steps: tuple[Step, ...]
    weights: Mapping[int, str]  # epoch -> digest of its weights
    states: Mapping[int, Path]  # step of the training -> folder of the state saved after it
    stopped: str | None  # where, if it was asked to stop
    lines: tuple[str, ...]  # what it said

    @property
    def losses(self) -> list[float]:
        return [step.loss for step in self.steps]


class Runs:
    """Starts fine-tunes, each in fresh processes."""

    def __init__(self) -> None:
        os.environ.update(WORKER)  # before the server of forks starts, which hands them on
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["dolly_assets_tests.training.preload"])
        self._pool = ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1)

    def close(self) -> None:
        self._pool.shutdown()

    def start(self, job: FineTune, *, ranks: int = 1, ask_at: int | None = None) -> list[Future[Outcome]]:
        """One future for each rank. The last one is asked to stop when the state after step `ask_at` is saved."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        variables = [
            {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
            for rank in range(ranks)
        ]
        return [
            self._pool.submit(_run, job, each if ranks > 1 else {}, ask_at if rank == ranks - 1 else None)
            for rank, each in enumerate(variables)
        ]

    def run(self, job: FineTune, *, ranks: int = 1, ask_at: int | None = None) -> Outcome:
        """Trains to the end; what rank 0 saw."""
        outcomes = [future.result(timeout=120) for future in self.start(job, ranks=ranks, ask_at=ask_at)]
        assert all(outcome.losses == outcomes[0].losses for outcome in outcomes)
        assert all(outcome.stopped == outcomes[0].stopped for outcome in outcomes)
        return outcomes[0]


class _Recorder:
    """Follows a training and keeps all that it is given."""

    def __init__(self, ask_at: int | None) -> None:
        self.results: list[EpochResult] = []
        self.digests: dict[int, str] = {}
        self.states: dict[int, Path] = {}
        self.lines: list[str] = []
        self.wants_state = True
        self._ask_at = ask_at
        self._is_started = False

    def on_start(self) -> None:
        self._is_started = True

    def on_epoch(self, result: EpochResult) -> None:
        assert self._is_started, "on_start comes before the first epoch"
        self.results.append(result)
        self.digests[result.epoch] = weights_sha256(result.checkpoint)

    def on_state(self, state: PartialState) -> None:
        step = int(state.folder.name.removeprefix("state-"))
        self.states[step] = state.folder
        if step == self._ask_at:
            signal.raise_signal(signal.SIGTERM)

    def stopping(self, step_seconds: float) -> None:
        self.wants_state = False

    def log(self, text: str) -> None:
        self.lines.append(text)

    def failed(self, text: str) -> None:
        raise AssertionError(text)


def _run(job: FineTune, variables: Mapping[str, str], ask_at: int | None) -> Outcome:
    os.environ.update(variables)
    stop = StopRequest()
    stop.listen()
    recorder = _Recorder(ask_at)
    stopped = None
    try:
        fine_tune(job, recorder, stop)
    except TrainingStopped as reason:
        stopped = str(reason)
    leave_other_ranks()
    results = recorder.results
    return Outcome(
        epochs=tuple(result.epoch for result in results),
        steps=tuple(step for result in results for step in result.steps),
        weights=recorder.digests,
        states=recorder.states,
        stopped=stopped,
        lines=tuple(recorder.lines),
    )


def jobs_of(job: FineTune, scratch: Path, batches: Sequence[tuple[int, int]]) -> list[FineTune]:
    """The job with other (micro, global) batch sizes."""
    return [
        replace(
            job,
            recipe=job.recipe.model_copy(update={"micro_batch_size": micro, "global_batch_size": whole}),
            scratch=scratch / f"{micro}-{whole}",
        )
        for micro, whole in batches
    ]
