"""The finished part of an epoch, kept beside the state that is saved in the middle of it.

Another process that trains the rest reads it, so that the attributes of the epoch cover all of it.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter
from pydantic_core import from_json

from dolly_assets.core.errors import TrainingError
from dolly_assets.core.text import one_line
from dolly_assets.profiling.series.steplog import STEP_SCHEMA
from dolly_assets.training.loop.meter import StepTotals

PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class Progress:
    """The finished part of an epoch.

    Attributes:
        steps: Its optimizer steps, with the columns of STEP_SCHEMA. Where an earlier version saved
            the state, tokens and timings of single steps are null; their totals are known.
        seconds: Training time, without saving.
        saving_seconds: How long training waited for saves.
        work: Totals over the steps.
    """

    steps: pa.Table = field(default_factory=STEP_SCHEMA.empty_table)
    seconds: float = 0.0
    saving_seconds: float = 0.0
    work: StepTotals = field(default_factory=StepTotals)

    def write(self, folder: Path) -> None:
        """Write it beside a saved state."""
        document = {**vars(self), "steps": self.steps.to_pylist(), "work": asdict(self.work)}
        (folder / PROGRESS_FILE).write_text(json.dumps(document))

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
            return cls._of(from_json(file.read_bytes()))
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise TrainingError(
                f"{PROGRESS_FILE} of the checkpoint is damaged: {one_line(error)}"
            ) from error

    @classmethod
    def _of(cls, document: Any) -> "Progress":
        work = document["work"]
        if "memory_peak_bytes" in work:  # its name in earlier versions
            work["peak_rank_memory_bytes"] = work.pop("memory_peak_bytes")
        return cls(
            steps=pa.Table.from_pylist(document["steps"], schema=STEP_SCHEMA),
            seconds=float(document["seconds"]),
            saving_seconds=float(document["saving_seconds"]),
            work=TypeAdapter(StepTotals).validate_python(work),
        )
