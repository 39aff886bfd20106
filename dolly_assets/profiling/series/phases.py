"""What the trainer was doing when: named spans of time, one JSON line each.

    PhaseLog(folder / PHASES_FILE).mark("save", started_at, ended_at, epoch=2)

Several ranks may share a file. Knows nothing of samples.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dolly_assets.profiling.record.journal import Journal, read_journal

PHASES_FILE = "phases.jsonl"


@dataclass(frozen=True)
class Phase:
    """One span of time, in UTC epoch seconds.

    Attributes:
        name: Such as "load", "train", "save" or "publish".
        started_at: When it began.
        ended_at: When it ended.
        details: What a reader may want to know of it, such as the epoch.
    """

    name: str
    started_at: float
    ended_at: float
    details: dict[str, Any]

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.ended_at - self.started_at


class PhaseLog:
    """Appends phases to a file."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)

    def mark(self, name: str, started_at: float, ended_at: float, **details: Any) -> None:
        """Write a phase that has ended; times are UTC epoch seconds."""
        record = {"name": name, "started_at": started_at, "ended_at": ended_at, "details": details}
        self._journal.append(record)


def read_phases(path: Path) -> list[Phase]:
    """Read the phases in the order they began; a missing file has none, a torn line is skipped."""
    phases = [Phase(**record) for record in read_journal(path)]
    return sorted(phases, key=lambda phase: phase.started_at)


def seconds_of(phases: Iterable[Phase], name: str) -> float:
    """Return how long the phases of a name lasted together."""
    return sum(phase.seconds for phase in phases if phase.name == name)
