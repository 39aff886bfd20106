"""The finished part of an epoch, kept beside the state that is saved in the middle of it.

Another process that trains the rest reads it, so that the attributes of the epoch cover all of it.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from pydantic_core import from_json

from dolly_assets.core.errors import ArtifactError, TrainingError
from dolly_assets.core.text import one_line
from dolly_assets.profiling.series.steplog import STEP_SCHEMA
from dolly_assets.storage.tables import open_table
from dolly_assets.training.loop.example_losses import EXAMPLE_LOSSES_SCHEMA
from dolly_assets.training.loop.meter import StepTotals

PROGRESS_FILE = "progress.json"
LOSSES_FILE = "example_losses.parquet"


@dataclass(frozen=True)
class Progress:
    """The finished part of an epoch.

    Attributes:
        steps: Its optimizer steps, with the columns of STEP_SCHEMA. Where an earlier version saved
            the state, tokens and timings of single steps are null; their totals are known.
        seconds: Training time, without saving.
        saving_seconds: How long training waited for saves.
        work: Totals over the steps.
        losses: The loss of every example, with the columns of EXAMPLE_LOSSES_SCHEMA; none where an
            earlier version saved the state.
    """

    steps: pa.Table = field(default_factory=STEP_SCHEMA.empty_table)
    seconds: float = 0.0
    saving_seconds: float = 0.0
    work: StepTotals = field(default_factory=StepTotals)
    losses: pa.Table = field(default_factory=EXAMPLE_LOSSES_SCHEMA.empty_table)

    def write(self, folder: Path) -> None:
        """Write it beside a saved state."""
        document = {
            "steps": self.steps.to_pylist(),
            "seconds": self.seconds,
            "saving_seconds": self.saving_seconds,
            "work": asdict(self.work),
        }
        (folder / PROGRESS_FILE).write_text(json.dumps(document))
        pq.write_table(self.losses, folder / LOSSES_FILE)

    @classmethod
    def read(cls, folder: Path | None) -> "Progress":
        """Read it from a state's folder; it is empty for the state of the end of an epoch.

        Raises:
            TrainingError: It is damaged.
        """
        file = folder / PROGRESS_FILE if folder else None
        if file is None or not file.is_file():
            return cls()
        try:
            return cls._of(from_json(file.read_bytes()), _losses(file.with_name(LOSSES_FILE)))
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise TrainingError(
                f"{PROGRESS_FILE} of the checkpoint is damaged: {one_line(error)}"
            ) from error

    @classmethod
    def _of(cls, document: Any, losses: pa.Table) -> "Progress":
        work = document["work"]
        if "memory_peak_bytes" in work:  # its name in earlier versions
            work["peak_rank_memory_bytes"] = work.pop("memory_peak_bytes")
        return cls(
            steps=pa.Table.from_pylist(document["steps"], schema=STEP_SCHEMA),
            seconds=float(document["seconds"]),
            saving_seconds=float(document["saving_seconds"]),
            work=TypeAdapter(StepTotals).validate_python(work),
            losses=losses,
        )


def _losses(file: Path) -> pa.Table:
    """Return the losses of the examples; none if an earlier version saved the state.

    Raises:
        TrainingError: They are damaged.
    """
    if not file.is_file():
        return EXAMPLE_LOSSES_SCHEMA.empty_table()
    try:
        table = open_table(file, LOSSES_FILE)
        return table.select(EXAMPLE_LOSSES_SCHEMA.names).cast(EXAMPLE_LOSSES_SCHEMA)
    except (ArtifactError, pa.ArrowException, OSError, KeyError) as error:
        raise TrainingError(
            f"{LOSSES_FILE} of the checkpoint is damaged: {one_line(error)}"
        ) from error
