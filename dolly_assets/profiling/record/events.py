"""What happened to a GPU at a moment, one line each in `events.jsonl`, and its error counts.

    {"time_seconds": <UTC epoch>, "kind": "xid", "gpu": 3, "code": 79, "text": "…"}

`kind` is one of

- `xid`: the driver reports an error; `code` is NVIDIA's number for it;
- `ecc`: a memory error; `code` is 1 for a corrected one, 2 for one that was not;
- `lost`: the GPU fell off the bus; it is no longer read;
- `hang`: a call to the driver did not return for `HANG_SECONDS`; the GPU has no samples meanwhile;
- `back`: it did return, `seconds` after it was made;
- `field`: a reading that was available is no longer; `text` names it and the reason.

The error counts of all GPUs are in `health.jsonl`: a line when the sampler starts, when it ends,
and after an event.

    {"time_seconds": <UTC epoch>, "when": "start" | "event" | "end",
     "gpu": {"0": {"ecc_corrected_count": 0, …}, …}}

The counts are `ecc_corrected_count` and `ecc_uncorrected_count` (since the driver was loaded),
`pcie_replay_count`, `remapped_rows_corrected`, `remapped_rows_uncorrected`, `remapping_is_pending`
and `remapping_has_failed` (1 or 0; since Ampere), `retired_pages_single_bit` and
`retired_pages_double_bit` (until Volta).

Knows no NVML.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dolly_assets.profiling.record.journal import read_journal

EVENTS_FILE = "events.jsonl"
HEALTH_FILE = "health.jsonl"
HANG_SECONDS = 2.0

Kind = Literal["xid", "ecc", "lost", "hang", "back", "field"]

# The errors a training meets, from NVIDIA's "Xid Errors" (docs.nvidia.com/deploy/xid-errors).
XID_WORDS = {
    13: "graphics engine exception, usually a fault of the program",
    31: "memory page fault, usually a fault of the program",
    32: "invalid or corrupted push buffer stream",
    43: "the GPU stopped processing, the program may continue",
    45: "cleanup after an earlier error",
    48: "double-bit ECC error",
    61: "internal micro-controller breakpoint or warning",
    62: "internal micro-controller halt",
    63: "a memory page or row was retired or remapped",
    64: "a memory page or row could not be retired or remapped",
    69: "graphics engine class error",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    92: "high rate of single-bit ECC errors",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "the GPU's system processor timed out",
    120: "the GPU's system processor had an error",
    121: "corrected error on the link between chips",
    140: "unrecovered ECC error",
}


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        time_seconds: UTC epoch seconds.
        kind: See the module.
        gpu: NVML's index.
        text: What happened, in words.
        code: Of an Xid or an ECC error.
        seconds: How long a call took that returned late.
    """

    time_seconds: float
    kind: Kind
    gpu: int
    text: str
    code: int | None = None
    seconds: float | None = None


def read_events(folder: Path, started_at: float, ended_at: float) -> Iterator[Event]:
    """Yield the events between two UTC epoch times, both inclusive."""
    for record in read_journal(folder / EVENTS_FILE):
        if started_at <= record["time_seconds"] <= ended_at:
            yield Event(**record)


@dataclass(frozen=True)
class Health:
    """The error counts of the GPUs at a time, by index and name."""

    time_seconds: float
    when: Literal["start", "event", "end"]
    gpu: dict[int, dict[str, int]]


def read_health(folder: Path) -> list[Health]:
    """Read all error counts in order. After a kill, the "end" is missing."""
    return [
        Health(
            record["time_seconds"],
            record["when"],
            {int(index): counts for index, counts in record["gpu"].items()},
        )
        for record in read_journal(folder / HEALTH_FILE)
    ]
