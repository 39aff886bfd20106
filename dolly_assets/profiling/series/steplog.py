"""What every optimizer step took and did, on every rank: `steps-{rank:05d}.jsonl` in the profile folder.

Knows nothing of the training itself. The seconds of a step are those that its rank spent; from the
end of one step to the start of the next nothing is counted: there a checkpoint is saved.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from dolly_assets.profiling.record.journal import Journal
from dolly_assets.profiling.series.columns import read_blocks

STEP_SCHEMA = pa.schema(
    {
        "step": pa.int64(),
        "epoch": pa.int64(),
        "rank": pa.int64(),
        "started_at": pa.float64(),
        "ended_at": pa.float64(),
        "data_seconds": pa.float64(),
        "forward_seconds": pa.float64(),
        "backward_seconds": pa.float64(),
        "optimizer_seconds": pa.float64(),
        "wait_seconds": pa.float64(),
        "real_tokens": pa.int64(),
        "processed_tokens": pa.int64(),
        "labelled_tokens": pa.int64(),
        "flops": pa.float64(),
        "memory_peak_bytes": pa.int64(),
    }
)


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step of one rank.

    Attributes:
        step: Number of the step since the first epoch's first, counted from 1.
        epoch: Counted from 1.
        rank: Global rank.
        started_at: When its data were asked for, seconds since the Unix epoch.
        ended_at: When its loss was known on this rank.
        data_seconds: Waiting for its micro-batches.
        forward_seconds: In the forward passes, the loss included.
        backward_seconds: In the backward passes, with what gradients are exchanged meanwhile.
        optimizer_seconds: In the optimizer, clipping and the exchange of gradients and weights that
            belongs to it.
        wait_seconds: The rest: waiting for the loss of the other ranks, or for whatever else holds
            a step up.
        real_tokens: Tokens of the examples that this rank trained on.
        processed_tokens: The same with padding.
        labelled_tokens: Tokens that the loss counts.
        flops: Floating-point operations that the model asks for (see
            `dolly_assets.training.flops`).
        memory_peak_bytes: Most device memory (on a CPU: resident memory) of the process so far;
            None if not known.
    """

    step: int
    epoch: int
    rank: int
    started_at: float
    ended_at: float
    data_seconds: float
    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    wait_seconds: float
    real_tokens: int
    processed_tokens: int
    labelled_tokens: int
    flops: float
    memory_peak_bytes: int | None


class StepLog:
    """The writing end, one for each rank."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._journal = Journal(folder / f"steps-{rank:05d}.jsonl")

    def append(self, record: StepRecord) -> None:
        """Writes one step; raises OSError if the file can't be written."""
        self._journal.append(asdict(record))

    def close(self) -> None:
        """Closes the file."""
        self._journal.close()


def step_files(folder: Path) -> list[Path]:
    """The journals of all ranks that have begun one."""
    return sorted(folder.glob("steps-*.jsonl"))


def read_steps(folder: Path, started_at: float = -math.inf, ended_at: float = math.inf) -> pa.Table:
    """The steps of all ranks that ended in [started_at, ended_at], by step and rank; columns of STEP_SCHEMA."""
    tables = [
        _as_steps(block)
        for file in step_files(folder)
        for block in read_blocks(file, "ended_at", started_at, ended_at)
    ]
    steps = pa.concat_tables([STEP_SCHEMA.empty_table(), *tables])
    return steps.sort_by([("step", "ascending"), ("rank", "ascending")])


def _as_steps(block: pa.Table) -> pa.Table:
    """A block of a journal with STEP_SCHEMA's columns and types; what no line of it has is null."""
    missing = pa.nulls(block.num_rows)
    columns = [block[name] if name in block.column_names else missing for name in STEP_SCHEMA.names]
    return pa.table(columns, names=STEP_SCHEMA.names).cast(STEP_SCHEMA)
