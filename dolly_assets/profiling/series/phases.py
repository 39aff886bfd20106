"""What the trainer was doing when: named spans of time, written as they begin and end.

    phases = PhaseLog(folder / PHASES_FILE)
    with phases.span("evaluate", epoch=2):
        ...

A span is written twice, when it begins (open) and when it ends, so a crash in the middle of one
still tells what was running. Several ranks may share a file. Knows nothing of samples.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dolly_assets.profiling.record.journal import Journal, read_journal

PHASES_FILE = "phases.jsonl"


@dataclass(frozen=True)
class Phase:
    """One span.

    Times are UTC epoch seconds; `ended_at` is None for a span that was never closed.
    """

    name: str
    started_at: float
    ended_at: float | None
    facts: dict[str, Any]


class PhaseLog:
    """Appends spans to a file."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)

    @contextmanager
    def span(self, name: str, **facts: Any) -> Iterator[None]:
        """Marks the block as one span, also when it ends by an exception."""
        start = time.time()
        self._write(name, start, None, facts)
        try:
            yield
        finally:
            self._write(name, start, time.time(), facts)

    def mark(self, name: str, start: float, end: float, **facts: Any) -> None:
        """Writes a span that was timed elsewhere, in UTC epoch seconds."""
        self._write(name, start, end, facts)

    def _write(self, name: str, start: float, end: float | None, facts: dict[str, Any]) -> None:
        self._journal.append({"name": name, "started_at": start, "ended_at": end, "facts": facts})


def read_phases(path: Path) -> list[Phase]:
    """Reads the spans in the order they began; a missing file has none, a torn line is skipped."""
    phases: dict[str, Phase] = {}
    for record in read_journal(path):
        identity = json.dumps(
            [record["name"], record["started_at"], record["facts"]], sort_keys=True
        )
        phases[identity] = Phase(**record)  # the line of the end replaces that of the beginning
    return sorted(phases.values(), key=lambda phase: phase.started_at)
