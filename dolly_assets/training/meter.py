"""Measures the steps of one rank: where their time goes, and what was computed meanwhile."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dolly_assets.profiling.steplog import StepLog, StepRecord
from dolly_assets.training.batches import MicroBatch
from dolly_assets.training.flops import ModelFlops

if TYPE_CHECKING:
    import torch

Phase = Literal["data", "forward", "backward", "optimizer"]
_PHASES: tuple[Phase, ...] = ("data", "forward", "backward", "optimizer")
_STATUS = Path("/proc/self/status")


class StepMeter:
    """What happens between `begin` and `end` is one step.

    On a GPU, what is measured of forward, backward and optimizer is the device's time and not that of the process,
    which runs ahead of it.
    """

    def __init__(self, flops: ModelFlops, device: "torch.device", rank: int, log: StepLog | None = None) -> None:
        self._flops, self._device, self._rank, self._log = flops, device, rank, log
        self.last: StepRecord | None = None

    def begin(self) -> None:
        """A step begins: its data are asked for."""
        self._started_at, self._clock = time.time(), time.perf_counter()
        self._marks: dict[Phase, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {}
        self._seconds = dict.fromkeys(_PHASES, 0.0)
        self._real = self._processed = self._labelled = 0
        self._operations = 0.0

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """What runs within belongs to a phase of the step."""
        if self._device.type == "cuda" and name != "data":
            import torch

            marks = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            marks[0].record()
            yield
            marks[1].record()
            self._marks.setdefault(name, []).append(marks)
        else:
            began = time.perf_counter()
            yield
            self._seconds[name] += time.perf_counter() - began

    def count(self, batch: MicroBatch) -> None:
        """A micro-batch of the step is trained on."""
        lengths = batch["lengths"][: batch["examples"]]
        self._real += sum(lengths)
        self._processed += batch["input_ids"].numel()
        self._labelled += batch["targets"].numel()
        self._operations += self._flops.of_examples(lengths, batch["targets"].numel())

    def end(self, step: int, epoch: int) -> None:
        """The step has ended and its loss is known: it becomes `last`, and is logged."""
        elapsed = time.perf_counter() - self._clock
        for name, marks in self._marks.items():
            marks[-1][1].synchronize()
            self._seconds[name] = sum(begin.elapsed_time(end) for begin, end in marks) / 1000
        self.last = StepRecord(
            step=step,
            epoch=epoch,
            rank=self._rank,
            started_at=self._started_at,
            ended_at=self._started_at + elapsed,
            **{f"{name}_seconds": seconds for name, seconds in self._seconds.items()},
            wait_seconds=max(0.0, elapsed - sum(self._seconds.values())),
            real_tokens=self._real,
            processed_tokens=self._processed,
            labelled_tokens=self._labelled,
            flops=self._operations,
            memory_peak_bytes=memory_peak(self._device),
        )
        if self._log:
            self._log.append(self.last)


def memory_peak(device: "torch.device") -> int | None:
    """Most bytes that this process has held so far: allocated on its GPU, or resident on a CPU; None if not known."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    if not _STATUS.exists():
        return None
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024
