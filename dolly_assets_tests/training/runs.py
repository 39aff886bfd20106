"""Fine-tunes in processes of their own, since DeepSpeed's state is one per process; torch is imported once for all.

Real are the Trainer, DeepSpeed and gloo on the CPU. What torchrun would put into the environment, we put there.
"""

import multiprocessing
import os
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from dolly_assets.training.fine_tune import EpochResult, FineTune, Step, fine_tune
from dolly_assets.training.tensors import weights_sha256

WORKER = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "DS_LOG_LEVEL": "error"}


@dataclass(frozen=True)
class Outcome:
    """What a rank saw of its training."""

    epochs: tuple[int, ...]
    steps: tuple[Step, ...]
    weights: Mapping[int, str]  # epoch -> digest of its weights

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

    def start(self, job: FineTune, *, ranks: int = 1) -> list[Future[Outcome]]:
        """One future for each rank."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        variables = [
            {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
            for rank in range(ranks)
        ]
        return [self._pool.submit(_run, job, each if ranks > 1 else {}) for each in variables]

    def run(self, job: FineTune, *, ranks: int = 1) -> Outcome:
        """Trains to the end; what rank 0 saw."""
        outcomes = [future.result(timeout=120) for future in self.start(job, ranks=ranks)]
        assert all(outcome.losses == outcomes[0].losses for outcome in outcomes)
        return outcomes[0]


def _run(job: FineTune, variables: Mapping[str, str]) -> Outcome:
    os.environ.update(variables)
    results: list[EpochResult] = []
    started: list[int] = []
    digests: dict[int, str] = {}

    def on_epoch(result: EpochResult) -> None:
        assert started, "on_start comes before the first epoch"
        results.append(result)
        digests[result.epoch] = weights_sha256(result.checkpoint)

    fine_tune(job, on_start=lambda: started.append(1), on_epoch=on_epoch, log=lambda _: None)
    epochs = tuple(result.epoch for result in results)
    return Outcome(epochs, tuple(step for result in results for step in result.steps), digests)


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
