"""The finished part of an epoch, kept beside the state that is saved in the middle of it.

Another process that trains the rest reads it, so that the attributes of the epoch cover all of it.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dolly_assets.training.loop.meter import StepTotals
from dolly_assets.training.loop.steps import Step

PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class Progress:
    """The finished part of an epoch.

    Attributes:
        steps: Its optimizer steps.
        seconds: Training time, without saving.
        saving_seconds: How long training waited for saves.
        work: Totals over the steps.
    """

    steps: tuple[Step, ...] = ()
    seconds: float = 0.0
    saving_seconds: float = 0.0
    work: StepTotals = field(default_factory=StepTotals)

    def write(self, folder: Path) -> None:
        """Write it beside a saved state."""
        (folder / PROGRESS_FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path | None) -> "Progress":
        """Read it from a state's folder; it is empty for the state of the end of an epoch."""
        file = folder / PROGRESS_FILE if folder else None
        if file is None or not file.is_file():
            return cls()
        document = json.loads(file.read_text())
        return cls(
            steps=tuple(Step(**step) for step in document["steps"]),
            seconds=document["seconds"],
            saving_seconds=document["saving_seconds"],
            work=StepTotals(**document["work"]),
        )
