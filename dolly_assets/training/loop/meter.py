"""Measures the steps of one rank: where their time goes, and what was computed meanwhile.

Knows micro-batches and devices, and nothing of epochs, checkpoints or profiles.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pyarrow as pa

from dolly_assets.hardware.device_table import Precision, peak_flops
from dolly_assets.profiling.series.steplog import (
    STEP_PHASES,
    STEP_SCHEMA,
    StepLog,
    StepRecord,
)
from dolly_assets.profiling.series.throughput import flops_utilization
from dolly_assets.training.flops import ModelFlops
from dolly_assets.training.packing.batches import MicroBatch
from dolly_assets.training.process_group import HostGroup, rank_and_size

if TYPE_CHECKING:
    import torch

Phase = Literal["data", "forward", "backward", "optimizer"]
_PHASES: tuple[Phase, ...] = ("data", "forward", "backward", "optimizer")
_SUMS = ("real_tokens", "processed_tokens", "labelled_tokens", "flops")
_MEANS = tuple(f"{phase}_seconds" for phase in STEP_PHASES)
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class StepTotals:
    """What was done in some steps, by all ranks together.

    Attributes:
        real_tokens: Tokens of the examples trained on.
        processed_tokens: The same with padding.
        labelled_tokens: Tokens that the loss counted.
        flops: Floating-point operations of the model.
        data_seconds: Mean over the ranks, summed over the steps; likewise the next four.
        peak_rank_memory_bytes: The most of any rank; 0 if not known.
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
    peak_rank_memory_bytes: int = 0

    @classmethod
    def of(cls, steps: pa.Table) -> Self:
        """Add up steps, given with the columns of STEP_SCHEMA."""
        sums = {name: sum(steps[name].to_pylist()) for name in (*_SUMS, *_MEANS)}
        peaks = [peak or 0 for peak in steps["peak_rank_memory_bytes"].to_pylist()]
        return cls(**sums, peak_rank_memory_bytes=max(peaks, default=0))

    def __add__(self, later: "StepTotals") -> "StepTotals":
        added = {name: getattr(self, name) + getattr(later, name) for name in (*_SUMS, *_MEANS)}
        peak = max(self.peak_rank_memory_bytes, later.peak_rank_memory_bytes)
        return StepTotals(**added, peak_rank_memory_bytes=peak)


class StepMeter:
    """Measures what happens between `begin` and `end` as one step.

    On a GPU, what is measured of forward, backward and optimizer is the device's time and not that
    of the process, which runs ahead of it.
    """

    def __init__(
        self,
        flops: ModelFlops | None,
        device: "torch.device",
        rank: int,
        precision: Precision,
        log: StepLog | None = None,
    ) -> None:
        self._flops, self._device, self._rank, self._log = flops, device, rank, log
        self._peak_flops = _peak_flops(device, precision)
        self._records: list[StepRecord] = []
        self._latest: StepRecord | None = None

    def begin(self) -> None:
        """Begin a step: its data are asked for."""
        self._started_at, self._clock = time.time(), time.perf_counter()
        self._marks: dict[Phase, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {}
        self._seconds = dict.fromkeys(_PHASES, 0.0)
        self._real = self._processed = self._labelled = 0
        self._operations = 0.0

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the time of a block to a phase of the step."""
        if self._device.type == "cuda" and name != "data":
            import torch

            # Events are timed by the device when it gets there: reading a clock here would measure
            # how fast kernels are launched.
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
        """Count a micro-batch of the step."""
        lengths = batch["lengths"][: batch["examples"]]
        self._real += sum(lengths)
        self._processed += batch["input_ids"].numel()
        self._labelled += batch["targets"].numel()
        if self._flops:
            self._operations += self._flops.of_examples(lengths, batch["targets"].numel())

    def end(
        self,
        step: int,
        epoch: int,
        *,
        loss: float,
        learning_rate: float | None,
        grad_norm: float | None,
    ) -> None:
        """End the step: its loss is known.

        Args:
            step: Number of the step since the first epoch's first, counted from 1.
            epoch: Counted from 1.
            loss: Mean over the labelled tokens of the global batch.
            learning_rate: The rate that the step was made with.
            grad_norm: Norm of the gradients; None if nobody measured it.
        """
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
            peak_rank_memory_bytes=peak_memory(self._device),
            loss=loss,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
        )
        self._records.append(record)
        self._latest = record
        if self._log:
            self._log.append(record)

    @property
    def counts_operations(self) -> bool:
        """Whether the architecture's floating-point operations can be counted."""
        return self._flops is not None

    @property
    def latest(self) -> StepRecord:
        """The step that ended last; there must have been one."""
        assert self._latest
        return self._latest

    def utilization(self, flops: float, rank_seconds: float) -> float | None:
        """Return the model FLOPs utilization by the device's data sheet, 0 to 1.

        None if the device's peak is not known, as of CPUs, or the operations are not.
        """
        if not self._peak_flops or not flops:
            return None
        return flops_utilization(flops, rank_seconds, self._peak_flops)

    def take(self, hosts: HostGroup) -> pa.Table:
        """Return the steps made since the last call, of all ranks together; a collective operation.

        The columns are those of STEP_SCHEMA: tokens and operations are sums over the ranks, seconds
        of phases their means; a step lasts from its first rank's start to its last one's end.
        """
        records, self._records = self._records, []
        return _of_all_ranks(records, hosts)


def _of_all_ranks(records: list[StepRecord], hosts: HostGroup) -> pa.Table:
    _, ranks = rank_and_size()
    sums = hosts.sum(_numbers(records, (*_SUMS, *_MEANS)))
    ends = _numbers(records, ("started_at", "ended_at"))
    memory = [[float(record.peak_rank_memory_bytes or -1)] for record in records]
    # One exchange for the smallest and the largest: a start's negative is the larger, the earlier.
    most = hosts.maximum(np.hstack([ends * (-1, 1), np.array(memory).reshape(-1, 1)]))
    columns = {name: [getattr(record, name) for record in records] for name in _OF_ANY_RANK}
    columns |= {name: sums[:, place].astype(np.int64) for place, name in enumerate(_SUMS[:-1])}
    columns |= {"flops": sums[:, len(_SUMS) - 1]}
    columns |= {name: sums[:, len(_SUMS) + place] / ranks for place, name in enumerate(_MEANS)}
    columns |= {"started_at": -most[:, 0], "ended_at": most[:, 1]}
    columns |= {"peak_rank_memory_bytes": [int(peak) if peak > 0 else None for peak in most[:, 2]]}
    return pa.table({name: columns[name] for name in STEP_SCHEMA.names}, schema=STEP_SCHEMA)


_OF_ANY_RANK = ("step", "epoch", "loss", "learning_rate", "grad_norm")


def _numbers(records: list[StepRecord], names: tuple[str, ...]) -> "np.ndarray":
    """Return fields of records as floats, shape (steps, names)."""
    rows = [[float(getattr(record, name)) for name in names] for record in records]
    return np.array(rows, dtype=np.float64).reshape(-1, len(names))


def _peak_flops(device: "torch.device", precision: Precision) -> float | None:
    if device.type != "cuda":
        return None
    import torch

    return peak_flops(torch.cuda.get_device_name(device), precision)


def peak_memory(device: "torch.device") -> int | None:
    """Return the most bytes that this process has held so far; None if that is not known.

    Allocated on its GPU, or resident on a CPU.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    if not _STATUS.exists():
        return None
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024
