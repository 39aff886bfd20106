"""One record per optimizer step: what was learned, what was computed, and where the time went.

Every rank appends its records to `steps-{rank:05d}.jsonl` in the profile's folder. Knows nothing of
the training itself. The seconds of a step are those that its rank spent; what happens from the end
of one step to the start of the next, such as saving a checkpoint, belongs to no step.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.profiling.record.journal import Journal
from dolly_assets.profiling.series.columns import read_blocks

StepPhase = Literal["data", "forward", "backward", "optimizer", "wait"]
STEP_PHASES: tuple[StepPhase, ...] = ("data", "forward", "backward", "optimizer", "wait")

STEP_SCHEMA = pa.schema(
    {
        "step": pa.int64(),
        "epoch": pa.int64(),
        "loss": pa.float64(),
        "learning_rate": pa.float64(),
        "grad_norm": pa.float64(),
        "started_at": pa.float64(),
        "ended_at": pa.float64(),
        **{f"{phase}_seconds": pa.float64() for phase in STEP_PHASES},
        "real_tokens": pa.int64(),
        "processed_tokens": pa.int64(),
        "labelled_tokens": pa.int64(),
        "flops": pa.float64(),
        "peak_rank_memory_bytes": pa.int64(),
    }
)
RANK_STEP_SCHEMA = pa.schema([*STEP_SCHEMA, pa.field("rank", pa.int64())])


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step, as one rank saw it.

    Loss, rate and norm are those of the global batch, the same on every rank.

    Attributes:
        step: Number of the step since the first epoch's first, counted from 1.
        epoch: Counted from 1.
        rank: Global rank.
        started_at: When the rank asked for the step's data, in seconds since the Unix epoch.
        ended_at: When the rank knew the step's loss.
        data_seconds: Waiting for micro-batches.
        forward_seconds: In the forward passes, the loss included.
        backward_seconds: In the backward passes, with the gradients that are exchanged meanwhile.
        optimizer_seconds: In the optimizer, clipping, and the exchange of gradients and weights
            that belongs to it.
        wait_seconds: The rest: waiting for the other ranks' loss, or for whatever else delays a
            step.
        real_tokens: Tokens of the examples that this rank trained on.
        processed_tokens: The same with padding.
        labelled_tokens: Tokens that the loss counts.
        flops: Floating-point operations of the model (see `dolly_assets.training.flops`).
        peak_rank_memory_bytes: Most device memory (on a CPU: resident memory) that the process has
            held so far; None if not known.
        loss: Mean over the labelled tokens of the global batch, in nats; None if not known here.
        learning_rate: The rate that the step was made with; None if not known here.
        grad_norm: Norm of the gradients before clipping; None if nobody measured it.
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
    peak_rank_memory_bytes: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None


class StepLog:
    """The writing end, one for each rank."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._journal = Journal(folder / f"steps-{rank:05d}.jsonl")

    def append(self, record: StepRecord) -> None:
        """Write one step.

        Raises:
            OSError: The file cannot be written.
        """
        self._journal.append(asdict(record))


def step_files(folder: Path) -> list[Path]:
    """Return the journals of all ranks that have begun one."""
    return sorted(folder.glob("steps-*.jsonl"))


def read_steps(folder: Path, started_at: float = -math.inf, ended_at: float = math.inf) -> pa.Table:
    """Read the steps of all ranks that ended in [started_at, ended_at], by step and rank.

    The columns are those of RANK_STEP_SCHEMA. Lines that are not a step (damaged) are skipped.
    """
    tables = [
        _as_steps(block)
        for file in step_files(folder)
        for block in read_blocks(file, "ended_at", started_at, ended_at)
    ]
    steps = pa.concat_tables([RANK_STEP_SCHEMA.empty_table(), *tables])
    return steps.sort_by([("step", "ascending"), ("rank", "ascending")])


def _as_steps(block: pa.Table) -> pa.Table:
    """Return a journal's block in RANK_STEP_SCHEMA; what none of its lines has is null."""
    missing = pa.nulls(block.num_rows)
    names = RANK_STEP_SCHEMA.names
    columns = [block[name] if name in block.column_names else missing for name in names]
    return pa.table(columns, names=names).filter(_is_step()).cast(RANK_STEP_SCHEMA)


def _is_step() -> pc.Expression:
    """Return what holds of a step: it has a number and a rank, and nothing is half a token."""
    is_step = pc.field("step").is_valid() & pc.field("rank").is_valid()
    for column in RANK_STEP_SCHEMA:
        if pa.types.is_integer(column.type):
            value = pc.field(column.name).cast(pa.float64())
            floor = pc.floor(value)  # pyright: ignore[reportAttributeAccessIssue]
            is_whole = (value == floor) & (floor > -(2**53)) & (floor < 2**53)
            is_step &= value.is_null() | is_whole
    return is_step
