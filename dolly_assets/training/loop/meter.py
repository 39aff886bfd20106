"""Measures the steps of one rank: where their time goes, and what was computed meanwhile."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from dolly_assets.hardware.device_table import Precision, peak_flops
from dolly_assets.profiling.series.steplog import StepLog, StepRecord
from dolly_assets.training.flops import ModelFlops
from dolly_assets.training.packing.batches import MicroBatch

if TYPE_CHECKING:
    import torch

Phase = Literal["data", "forward", "backward", "optimizer"]
_PHASES: tuple[Phase, ...] = ("data", "forward", "backward", "optimizer")
_SUMS = ("real_tokens", "processed_tokens", "labelled_tokens", "flops")
STEP_PHASES = (*_PHASES, "wait")  # whose seconds are those of a step
_MEANS = tuple(f"{phase}_seconds" for phase in STEP_PHASES)
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class StepTotals:
    """What was done in some steps, by all ranks together.

    Attributes:
        real_tokens: Tokens of the examples trained on.
        processed_tokens: The same with padding.
        labelled_tokens: Tokens that the loss counted.
        flops: Floating-point operations that the model asked for.
        data_seconds: Mean over the ranks of what their steps say; likewise the next four.
        memory_peak_bytes: The most of any rank; 0 if not known.
    """

    real_tokens: int = 0
    processed_tokens: int = 0
    labelled_tokens: int = 0
    flops: float = 0.0
    data_seconds: float = 0.0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    optimizer_seconds: float = 0.0
    wait_seconds: float = 0.0
    memory_peak_bytes: int = 0

    @classmethod
    def of(cls, records: Sequence[StepRecord]) -> Self:
        """Adds up the steps of this rank and those that the others give; a collective operation."""
        import torch.distributed

        mine: dict[str, float] = {
            name: sum(getattr(record, name) for record in records) for name in (*_SUMS, *_MEANS)
        }
        mine["memory_peak_bytes"] = max(
            (record.memory_peak_bytes or 0 for record in records), default=0
        )
        everyones = [mine]
        if torch.distributed.is_initialized():
            everyones = [{}] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(everyones, mine)
        sums: dict[str, Any] = {name: sum(each[name] for each in everyones) for name in mine}
        means = {name: sums[name] / len(everyones) for name in _MEANS}
        peak = max(each["memory_peak_bytes"] for each in everyones)
        return cls(**{**sums, **means, "memory_peak_bytes": peak})

    def __add__(self, later: "StepTotals") -> "StepTotals":
        added = {name: getattr(self, name) + getattr(later, name) for name in (*_SUMS, *_MEANS)}
        return StepTotals(
            **added, memory_peak_bytes=max(self.memory_peak_bytes, later.memory_peak_bytes)
        )


class StepMeter:
    """What happens between `begin` and `end` is one step.

    On a GPU, what is measured of forward, backward and optimizer is the device's time and not that
    of the process, which runs ahead of it.
    """

    def __init__(
        self,
        flops: ModelFlops,
        device: "torch.device",
        rank: int,
        precision: Precision,
        log: StepLog | None = None,
    ) -> None:
        self._flops, self._device, self._rank, self._log = flops, device, rank, log
        self._peak_flops = _peak_flops(device, precision)
        self._records: list[StepRecord] = []

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
        """The step has ended and its loss is known."""
        elapsed = time.perf_counter() - self._clock
        for name, marks in self._marks.items():
            marks[-1][1].synchronize()
            self._seconds[name] = sum(begin.elapsed_time(end) for begin, end in marks) / 1000
        record = StepRecord(
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
        self._records.append(record)
        if self._log:
            self._log.append(record)

    @property
    def latest(self) -> StepRecord:
        """Of the step that ended last."""
        return self._records[-1]

    def utilization(self, flops: float, rank_seconds: float) -> float | None:
        """Model FLOPs utilization, 0 to 1, by the data sheet of the device; None if it is not known, as of CPUs."""
        return flops / rank_seconds / self._peak_flops if self._peak_flops else None

    def take(self) -> StepTotals:
        """What all ranks did since the last call. All of them call it at the same point."""
        work = StepTotals.of(self._records)
        self._records = []
        return work


def _peak_flops(device: "torch.device", precision: Precision) -> float | None:
    if device.type != "cuda":
        return None
    import torch

    return peak_flops(torch.cuda.get_device_name(device), precision)


def memory_peak(device: "torch.device") -> int | None:
    """Most bytes that this process has held so far: allocated on its GPU, or resident on a CPU; None if not known."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    if not _STATUS.exists():
        return None
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024
