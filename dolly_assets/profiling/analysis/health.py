"""The health of the GPUs over a span: error counts, reported events, what throttled the clocks.

Knows nothing of findings: it collects, and judges nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.record.events import XID_WORDS, Event, Health, read_health
from dolly_assets.profiling.series.samples import THROTTLE_REASONS, Samples, time_share

HARMLESS = 0x1 | 0x2 | 0x100  # reasons for a lower clock that are no problem


class DeviceHealth(Config):
    """One GPU over a span."""

    gpu: int = Field(description="Index of the GPU.")
    before: dict[str, int] = Field(description="Error counts when the span began, by name.")
    after: dict[str, int] = Field(
        description="The last error counts of the span; those of `before` if there are no later."
    )
    slowed: dict[str, float] = Field(
        description="Share of the readings in which its clocks were throttled, by reason, 0 to 1."
    )
    reports: list[str] = Field(
        description="Events that the driver and the sampler reported, in order."
    )

    @property
    def grown(self) -> dict[str, int]:
        """By how much each error count grew."""
        counts = {name: count - self.before.get(name, 0) for name, count in self.after.items()}
        return {name: count for name, count in counts.items() if count > 0}


def device_health(
    hardware: Hardware,
    samples: Samples,
    events: Sequence[Event],
    folder: Path,
    span: tuple[float, float],
) -> list[DeviceHealth]:
    """Return the health of each GPU.

    Args:
        hardware: The GPUs.
        samples: Of the span.
        events: Of the span.
        folder: Where the sampler wrote.
        span: Start and end, in UTC epoch seconds.
    """
    readings = read_health(folder)
    before = [reading for reading in readings if reading.time_seconds <= span[0]][-1:] or readings[
        :1
    ]
    within = [reading for reading in readings if reading.time_seconds <= span[1] + 1]
    after = within[-1:] or before
    return [
        DeviceHealth(
            gpu=device.index,
            before=_counts(before, device.index),
            after=_counts(after, device.index) or _counts(before, device.index),
            slowed=_slowed(samples, device.index),
            reports=[_words(event) for event in events if event.gpu == device.index],
        )
        for device in hardware.devices
    ]


def _counts(readings: Sequence[Health], gpu: int) -> dict[str, int]:
    return readings[0].gpu.get(gpu, {}) if readings else {}


def _slowed(samples: Samples, gpu: int) -> dict[str, float]:
    reasons = samples.get(f"gpu.{gpu}.throttle_reasons")
    shares = {
        word: time_share(reasons, bit)
        for bit, word in THROTTLE_REASONS.items()
        if not bit & HARMLESS
    }
    return {word: share for word, share in shares.items() if share > 0}


def _words(event: Event) -> str:
    if event.kind == "xid":
        known = XID_WORDS.get(event.code or 0, "")
        return f"Xid {event.code}{f' ({known})' if known else ''}"
    return event.text
