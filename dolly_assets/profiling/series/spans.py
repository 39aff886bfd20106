"""Which epoch a training was at when: spans, written as they begin and end.

They outlive the process that writes them. Knows epochs as numbers, and nothing else of a training.
"""

from dataclasses import dataclass
from pathlib import Path

from dolly_assets.profiling.record.journal import Journal, read_journal

SPANS_FILE = "spans.jsonl"


@dataclass(frozen=True)
class EpochSpan:
    """What the profile of an epoch covers.

    Attributes:
        epoch: Number of the epoch.
        started_at: UTC epoch seconds.
        ended_at: UTC epoch seconds; None while it lasts.
    """

    epoch: int
    started_at: float
    ended_at: float | None = None


class SpanLog:
    """The writing end."""

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder / SPANS_FILE)

    def write(self, span: EpochSpan) -> None:
        """Write that a span began, or that one ended which was written before."""
        self._journal.append(
            {"epoch": span.epoch, "started_at": span.started_at, "ended_at": span.ended_at}
        )


def read_spans(folder: Path) -> list[EpochSpan]:
    """Read the spans in the order they began; the last record of each counts."""
    spans: dict[float, EpochSpan] = {}
    for record in read_journal(folder / SPANS_FILE):
        spans[record["started_at"]] = EpochSpan(**record)
    return list(spans.values())
