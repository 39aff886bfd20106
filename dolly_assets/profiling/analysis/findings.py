"""What stands out in a span: findings, the worst first, each with the sentence that says what to do about it.

True sentences about what was measured, and nothing that it does not show. The words mean:

- *idle* (GPU): a sample whose utilization is under `IDLE_BELOW_PERCENT`.
- *waits for data*: the share of its steps' time that a rank spent waiting for micro-batches.
- *straggler*: a rank whose own part of a step (data and forward, which no other rank can hold up)
  takes `straggler_percent` of a step longer than the middle rank's; or a GPU that works and whose
  mean clock is under `SLOW_CLOCK` of the middle one's.
- *too hot*: the driver or the hardware held the clocks down for the temperature's sake.
- *nearly full*: a peak of at least `memory_percent` of the memory.
- *unseen*: time without samples, where two are further apart than `GAP_INTERVALS` sampling
  intervals.

Limits in lower case are those of limits.py, which a family can change.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.profiling.analysis.health import DeviceHealth
from dolly_assets.profiling.analysis.limits import ProfileLimits
from dolly_assets.profiling.analysis.step_figures import RankFigures, StepFigures
from dolly_assets.profiling.record.devices import DRIVER_SILENT, Hardware
from dolly_assets.profiling.record.events import XID_WORDS, Event
from dolly_assets.profiling.series.samples import (
    THERMAL_REASONS,
    Samples,
    Series,
    time_share,
    typical_interval_seconds,
)

Check = Literal["gpu_idle", "thermal_throttling", "gpu_errors", "memory_nearly_full", "straggler"]

IDLE_BELOW_PERCENT = 5.0
DATA_SHARE = 0.05
STALL_SHARE = 0.05
SLOW_CLOCK = 0.85
NEARLY_FULL = 0.95
HOLLOW_BELOW_PERCENT = 60.0  # of SMs, while NVML calls the GPU busy
BUSY_FROM_PERCENT = 90.0
GAP_INTERVALS = 5
UNSEEN_SHARE = 0.05
START_UP_SECONDS = 10  # that a sampler may take before its first sample
LOST_SECONDS = 2.0


class ProfileFinding(Config):
    """One thing that stands out."""

    check: Check | None = Field(description="The asset check that it belongs to, if there is one.")
    weight: float = Field(
        description="How bad: the share of the span's work that is lost, more than 1 for errors."
    )
    text: str = Field(description="What was seen, as a clause without a full stop.")
    advice: str = Field(description="What to do, as a sentence.")


def find(
    samples: Samples,
    hardware: Hardware,
    steps: StepFigures | None,
    span: tuple[float, float],
    stalled_seconds: float,
    events: Sequence[Event],
    health: Sequence[DeviceHealth],
    limits: ProfileLimits,
) -> list[ProfileFinding]:
    """What stands out, the worst first. The span is in UTC epoch seconds."""
    found = [
        *_errors(samples, hardware, events, health),
        *_hot(health, samples, limits.thermal_percent / 100),
        *_idle(samples, hardware, limits.idle_percent / 100),
        *_hollow(samples, hardware),
        *_waiting_for_data(steps, hardware),
        *_stragglers(samples, hardware, steps, limits.straggler_percent / 100),
        *_memory(samples, hardware, limits.memory_percent / 100),
        *_stalls(stalled_seconds, span),
        *_unseen(samples, span),
    ]
    return sorted(found, key=lambda finding: -finding.weight)


def _errors(
    samples: Samples, hardware: Hardware, events: Sequence[Event], health: Sequence[DeviceHealth]
) -> Iterator[ProfileFinding]:
    """GPUs with errors: one finding each, of the worst that is known about it."""
    if hardware.no_device_reason == DRIVER_SILENT:
        yield ProfileFinding(
            check="gpu_errors",
            weight=13,
            text="the NVIDIA driver does not answer: no GPU could be seen",
            advice="Look into `dmesg`; if nvidia-smi hangs too, only a restart of the machine helps.",
        )
    for device, state in zip(hardware.devices, health, strict=True):
        index = device.index
        of_gpu = [event for event in events if event.gpu == index]
        xids = list(
            dict.fromkeys(
                event.code for event in of_gpu if event.kind == "xid" and event.code is not None
            )
        )
        silent_since = _silent_since(samples, device)
        uncorrected = state.grown.get("ecc_uncorrected_count", 0)
        words = ", ".join(f"Xid {code}: {XID_WORDS.get(code, 'not in our table')}" for code in xids)
        said = f" ({words})" if words else ""
        if any(event.kind == "lost" for event in of_gpu):
            when = next(event.time_seconds for event in of_gpu if event.kind == "lost")
            yield ProfileFinding(
                check="gpu_errors",
                weight=12,
                text=f"GPU {index} fell off the bus at {clock(when)} UTC{said}",
                advice="Give the machine back or reset it (power, riser and cooling are the usual causes), and go on "
                "from the last epoch.",
            )
        elif silent_since is not None:
            yield ProfileFinding(
                check="gpu_errors",
                weight=11,
                text=f"GPU {index} has not answered since {clock(silent_since)} UTC: its driver hangs{said}",
                advice="Look into `dmesg`; if nvidia-smi hangs too, only a restart of the machine helps.",
            )
        elif (
            uncorrected or xids or any(event.kind == "ecc" and event.code == 2 for event in of_gpu)
        ):
            count = (
                f" {uncorrected} uncorrected memory error{'s' if uncorrected > 1 else ''}"
                if uncorrected
                else ""
            )
            yield ProfileFinding(
                check="gpu_errors",
                weight=10,
                text=f"GPU {index} had{count or ' an error that the driver reports'}{said}",
                advice="Do not trust the steps since then: reset the GPU, which also takes a broken memory row out of "
                "use, and train the epoch again.",
            )
        elif state.after.get("remapping_has_failed"):
            yield ProfileFinding(
                check="gpu_errors",
                weight=9,
                text=f"GPU {index} has broken memory that could not be remapped",
                advice="Have the GPU exchanged.",
            )


def _silent_since(samples: Samples, device: Device) -> float | None:
    """The last reading of a GPU (UTC epoch seconds) that gave none while the sampler still wrote; else None."""
    values = samples.get(_gpu(device, "temperature_celsius"))
    if not len(values):
        return None
    last = float(samples.time_seconds[np.flatnonzero(~np.isnan(values))[-1]])
    patience = max(GAP_INTERVALS * typical_interval_seconds(samples.time_seconds), LOST_SECONDS)
    return last if samples.time_seconds[-1] - last > patience else None


def _hot(health: Sequence[DeviceHealth], samples: Samples, most: float) -> Iterator[ProfileFinding]:
    shares = {
        state.gpu: time_share(samples.get(f"gpu.{state.gpu}.throttle_reasons"), THERMAL_REASONS)
        for state in health
    }
    hot = {gpu: share for gpu, share in shares.items() if share >= most}
    if not hot:
        return
    worst = max(hot, key=lambda gpu: hot[gpu])
    clocks = samples.get(f"gpu.{worst}.sm_clock_mhz")
    slowed = (
        f", down to {np.nanmin(clocks):,.0f} of {np.nanmax(clocks):,.0f} MHz" if len(clocks) else ""
    )
    hottest = samples.get(f"gpu.{worst}.temperature_celsius")
    heat = f" at up to {np.nanmax(hottest):.0f} °C" if len(hottest) else ""
    others = f", and {len(hot) - 1} more GPUs too" if len(hot) > 1 else ""
    yield ProfileFinding(
        check="thermal_throttling",
        weight=max(0.3, hot[worst]),
        text=f"GPU {worst} slows down because it is too hot {percent(hot[worst])} of the time{heat}{slowed}{others}",
        advice="All ranks wait for the slowest: see to the machine's fans and filters, or lower the power limit of all "
        "GPUs (`nvidia-smi -pl`).",
    )


def _idle(samples: Samples, hardware: Hardware, most: float) -> Iterator[ProfileFinding]:
    shares = {
        device.index: idle_share(values)
        for device in hardware.devices
        if len(values := samples.get(_gpu(device, "gpu_utilization_percent")))
    }
    idle = {index: share for index, share in shares.items() if share >= most}
    if not idle:
        return
    worst = max(idle, key=lambda index: idle[index])
    if len(idle) > 1 and len(idle) == len(hardware.devices):
        text = f"all {len(idle)} GPUs are idle {percent(float(np.mean(list(idle.values()))))} of the time on average"
    else:
        others = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
        who = f"GPU {worst}" if len(hardware.devices) > 1 else "the GPU"
        text = f"{who} is idle {percent(idle[worst])} of the time{others and f', {others.strip()} too'}"
    yield ProfileFinding(
        check="gpu_idle",
        weight=sum(idle.values()) / len(hardware.devices) + (0.5 if idle[worst] > 0.95 else 0),
        text=text,
        advice="Look under the dips for the phase that ran: if it is the load or a save, train more epochs per run or "
        "save less often; if no phase uses that GPU, set compute.gpus to what is used.",
    )


def _hollow(samples: Samples, hardware: Hardware) -> Iterator[ProfileFinding]:
    """GPUs that always run a kernel, and one that uses a part of the chip."""
    for device in hardware.devices:
        busy, active = (
            samples.get(_gpu(device, field))
            for field in ("gpu_utilization_percent", "sm_active_percent")
        )
        if not len(busy) or not len(active) or np.nanmean(busy) < BUSY_FROM_PERCENT:
            continue
        mean = float(np.nanmean(active))
        if mean < HOLLOW_BELOW_PERCENT:
            yield ProfileFinding(
                check=None,
                weight=(100 - mean) / 100 / len(hardware.devices) / 2,
                text=f"GPU {device.index} is busy by the driver's word, and yet its SMs work {mean:.0f} % of the time",
                advice="The kernels are too small for the chip: raise recipe.micro_batch_size or recipe.max_length.",
            )
            return  # one says it for all


def _waiting_for_data(steps: StepFigures | None, hardware: Hardware) -> Iterator[ProfileFinding]:
    if steps is None:
        return
    worst = max(steps.ranks, key=lambda rank: rank.share("data"))
    if worst.share("data") >= DATA_SHARE:
        yield ProfileFinding(
            check=None,
            weight=worst.share("data"),
            text=f"{_who(worst, hardware)} waits {percent(worst.share('data'))} of each step for data",
            advice="Put the tokenized dataset on a local disk, and leave a CPU core for each rank.",
        )


def _stragglers(
    samples: Samples, hardware: Hardware, steps: StepFigures | None, most: float
) -> Iterator[ProfileFinding]:
    slow = _slow_rank(steps, most)
    if slow and steps:
        rank, behind = slow
        yield ProfileFinding(
            check="straggler",
            weight=behind / steps.step_seconds,
            text=f"{_who(rank, hardware)} needs {_seconds(behind)} more than the others for its part of each step, and "
            f"they wait for it ({percent(behind / steps.step_seconds)} of the step)",
            advice="Compare its clock, temperature and PCIe width with the others'; take it out if it stays slow.",
        )
        return
    clocks = {
        device.index: float(np.nanmean(values))
        for device in hardware.devices
        if len(values := samples.get(_gpu(device, "sm_clock_mhz"))) and _works(samples, device)
    }
    if len(clocks) < 2:
        return
    middle = float(np.median(list(clocks.values())))
    slowest = min(clocks, key=lambda index: clocks[index])
    if clocks[slowest] < SLOW_CLOCK * middle:
        yield ProfileFinding(
            check="straggler",
            weight=1 - clocks[slowest] / middle,
            text=f"GPU {slowest} runs at {clocks[slowest]:,.0f} MHz, the others at {middle:,.0f} MHz: they wait for it",
            advice=f"Look at temperature, power limit and clock settings of GPU {slowest} (`nvidia-smi -q -d CLOCK`).",
        )


def _slow_rank(steps: StepFigures | None, most: float) -> tuple[RankFigures, float] | None:
    """The rank furthest behind the middle one, and by how many seconds of each step, if that is worth saying."""
    if steps is None or len(steps.ranks) < 2:
        return None
    slowest = max(steps.ranks, key=lambda rank: rank.own_seconds)
    behind = slowest.own_seconds - float(np.median([rank.own_seconds for rank in steps.ranks]))
    return (slowest, behind) if behind >= most * steps.step_seconds else None


def _memory(samples: Samples, hardware: Hardware, most: float) -> Iterator[ProfileFinding]:
    fullest: tuple[float, Device] | None = None
    for device in hardware.devices:
        values = samples.get(_gpu(device, "memory_used_bytes"))
        if len(values) and device.memory_total_bytes:
            fullest = max(
                fullest or (0.0, device),
                (float(np.nanmax(values)) / device.memory_total_bytes, device),
                key=lambda pair: pair[0],
            )
    if fullest and fullest[0] >= most:
        yield ProfileFinding(
            check="memory_nearly_full",
            weight=0.2,
            text=f"the memory of GPU {fullest[1].index} was {percent(fullest[0])} full at its peak",
            advice="A longer row can run out of it: lower recipe.micro_batch_size, turn gradient_checkpointing on, or "
            "raise zero_stage.",
        )
    host = samples.get("host.memory_used_bytes")
    total = hardware.memory_total_bytes
    if len(host) and total and np.nanmax(host) >= most * total:
        yield ProfileFinding(
            check="memory_nearly_full",
            weight=0.2,
            text=f"the host's memory was {percent(float(np.nanmax(host)) / total)} full at its peak",
            advice="The kernel may kill the training: use fewer ranks, or a machine with more memory.",
        )


def _stalls(stalled_seconds: float, span: tuple[float, float]) -> Iterator[ProfileFinding]:
    share = stalled_seconds / max(span[1] - span[0], 1e-9)
    if share >= STALL_SHARE:
        yield ProfileFinding(
            check=None,
            weight=share,
            text=f"training stands still {percent(share)} of the time for its checkpoints",
            advice="Put DOLLY_HOME on a faster disk.",
        )


def _unseen(samples: Samples, span: tuple[float, float]) -> Iterator[ProfileFinding]:
    if not len(samples):
        return
    started_at = max(span[0], min(samples.time_seconds[0], span[0] + START_UP_SECONDS))
    share = unseen_seconds(samples.time_seconds, started_at, span[1]) / max(span[1] - span[0], 1e-9)
    if share >= UNSEEN_SHARE:
        yield ProfileFinding(
            check=None,
            weight=share / 2,
            text=f"{percent(share)} of the span is unseen: it has no samples",
            advice="Look into sampler.log: the sampler was killed, or the host stood still.",
        )


def idle_share(utilization_percent: Series) -> float:
    """Share of the readings that are idle, 0 to 1."""
    readings = utilization_percent[~np.isnan(utilization_percent)]
    return float((readings < IDLE_BELOW_PERCENT).mean())


def unseen_seconds(time_seconds: Series, started_at: float, ended_at: float) -> float:
    """Time of the span that no samples tell about."""
    interval = typical_interval_seconds(time_seconds)
    steps = np.diff(time_seconds, prepend=started_at, append=ended_at)
    return (
        float(steps[steps > GAP_INTERVALS * interval].sum()) if interval else ended_at - started_at
    )


def _gpu(device: Device, field: str) -> str:
    return f"gpu.{device.index}.{field}"


def _works(samples: Samples, device: Device) -> bool:
    values = samples.get(_gpu(device, "gpu_utilization_percent"))
    return bool(len(values)) and idle_share(values) < 0.5


def _who(rank: RankFigures, hardware: Hardware) -> str:
    """The GPU of a rank, or the rank itself on CPUs."""
    places = [device.index for device in hardware.devices]
    return f"GPU {places[rank.rank]}" if rank.rank < len(places) else f"rank {rank.rank}"


def percent(share: float) -> str:
    """A share, 0 to 1, in words."""
    value = 100 * share
    return "under 1 %" if 0 < value < 0.5 else f"{value:.0f} %"


def clock(moment: float) -> str:
    """A UTC epoch time as the time of day."""
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S")


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value >= 1 else f"{1000 * value:.0f} ms"
