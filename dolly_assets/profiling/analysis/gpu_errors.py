"""GPUs with errors: one finding each, for the worst that is known about it.

The rules are a table, the worst first; a GPU gets the finding of the first rule that applies.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dolly_assets.core.text import clock_time, count
from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.profiling.analysis.finding import ProfileFinding
from dolly_assets.profiling.analysis.health import DeviceHealth
from dolly_assets.profiling.record.devices import DRIVER_SILENT, Hardware
from dolly_assets.profiling.record.events import XID_WORDS, Event
from dolly_assets.profiling.series.samples import Samples, typical_interval_seconds

SILENT_INTERVALS = 5  # without a reading, in sampling intervals, before a GPU counts as silent
SILENT_SECONDS = 2.0  # and at least this long

_RESTART = "Check `dmesg`; if nvidia-smi hangs too, only a restart of the machine helps."


@dataclass(frozen=True)
class _Evidence:
    """What is known about the errors of one GPU.

    Attributes:
        index: The GPU's index.
        lost_at: When it fell off the bus, in UTC epoch seconds.
        silent_since: Its last reading, if it gave none for a while and the sampler still ran.
        uncorrected: Uncorrected memory errors that were counted in the span.
        xids: Codes of the errors that the driver reported.
        has_ecc_event: Whether the driver reported an uncorrected memory error.
        remapping_has_failed: Whether broken memory could not be remapped.
    """

    index: int
    lost_at: float | None
    silent_since: float | None
    uncorrected: int
    xids: tuple[int, ...]
    has_ecc_event: bool
    remapping_has_failed: bool

    @property
    def xid_words(self) -> str:
        """The driver's errors in parentheses, or empty."""
        words = (f"Xid {code}: {XID_WORDS.get(code, 'not documented here')}" for code in self.xids)
        return f" ({', '.join(words)})" if self.xids else ""


@dataclass(frozen=True)
class _Rule:
    applies: Callable[[_Evidence], bool]
    weight: float
    text: Callable[[_Evidence], str]
    advice: str


def _had(evidence: _Evidence) -> str:
    errors = count(evidence.uncorrected, "uncorrected memory error")
    what = errors if evidence.uncorrected else "an error that the driver reports"
    return f"GPU {evidence.index} had {what}{evidence.xid_words}"


_RULES = (
    _Rule(
        applies=lambda gpu: gpu.lost_at is not None,
        weight=12,
        text=lambda gpu: (
            f"GPU {gpu.index} fell off the bus at {clock_time(gpu.lost_at or 0)} UTC{gpu.xid_words}"
        ),
        advice="Return the machine or reset it (power, riser and cooling are the usual causes), "
        "and resume from the last epoch.",
    ),
    _Rule(
        applies=lambda gpu: gpu.silent_since is not None,
        weight=11,
        text=lambda gpu: (
            f"GPU {gpu.index} has not answered since "
            f"{clock_time(gpu.silent_since or 0)} UTC: its driver hangs{gpu.xid_words}"
        ),
        advice=_RESTART,
    ),
    _Rule(
        applies=lambda gpu: bool(gpu.uncorrected or gpu.xids or gpu.has_ecc_event),
        weight=10,
        text=_had,
        advice="Do not trust the steps since then: reset the GPU, which also takes a broken memory "
        "row out of use, and retrain the epoch.",
    ),
    _Rule(
        applies=lambda gpu: gpu.remapping_has_failed,
        weight=9,
        text=lambda gpu: f"GPU {gpu.index} has broken memory that could not be remapped",
        advice="Have the GPU replaced.",
    ),
)


def gpu_errors(
    samples: Samples, hardware: Hardware, events: Sequence[Event], health: Sequence[DeviceHealth]
) -> Iterator[ProfileFinding]:
    """Find the errors of the GPUs, and a driver that does not answer at all."""
    if hardware.no_device_reason == DRIVER_SILENT:
        yield ProfileFinding(
            check="gpu_errors",
            weight=13,
            text="the NVIDIA driver does not answer: no GPU is visible",
            advice=_RESTART,
        )
    for device, state in zip(hardware.devices, health, strict=True):
        evidence = _evidence(samples, device, events, state)
        rule = next((rule for rule in _RULES if rule.applies(evidence)), None)
        if rule:
            yield ProfileFinding(
                check="gpu_errors",
                weight=rule.weight,
                text=rule.text(evidence),
                advice=rule.advice,
            )


def _evidence(
    samples: Samples, device: Device, events: Sequence[Event], state: DeviceHealth
) -> _Evidence:
    of_gpu = [event for event in events if event.gpu == device.index]
    codes = [event.code for event in of_gpu if event.kind == "xid" and event.code is not None]
    return _Evidence(
        index=device.index,
        lost_at=next((event.time_seconds for event in of_gpu if event.kind == "lost"), None),
        silent_since=_silent_since(samples, device),
        uncorrected=state.grown.get("ecc_uncorrected_count", 0),
        xids=tuple(dict.fromkeys(codes)),
        has_ecc_event=any(event.kind == "ecc" and event.code == 2 for event in of_gpu),
        remapping_has_failed=bool(state.after.get("remapping_has_failed")),
    )


def _silent_since(samples: Samples, device: Device) -> float | None:
    """Return a GPU's last reading (UTC epoch seconds) if the sampler wrote on without it."""
    values = samples.get(f"gpu.{device.index}.temperature_celsius")
    if not len(values):
        return None
    last = float(samples.time_seconds[np.flatnonzero(~np.isnan(values))[-1]])
    interval = typical_interval_seconds(samples.time_seconds)
    patience = max(SILENT_INTERVALS * interval, SILENT_SECONDS)
    return last if samples.time_seconds[-1] - last > patience else None
