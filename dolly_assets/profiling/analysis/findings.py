"""What stands out in a span: findings, the worst first, each with advice.

They state what was measured, and conclude nothing that it does not show. The terms mean:

- *idle* (GPU): a sample whose utilization is under `IDLE_BELOW_PERCENT`;
- *waits for data*: the share of its steps' time that a rank spent waiting for micro-batches;
- *straggler*: a rank whose own part of a step (data and forward, which no other rank can delay)
  takes `straggler_percent` of a step longer than the median rank's; or a GPU that works and whose
  mean clock is under `SLOW_CLOCK` of the median;
- *throttled by heat*: the driver or the hardware lowered the clocks because of the temperature;
- *nearly full*: a peak of at least `memory_percent` of the memory;
- *unobserved*: time without samples, where two are further apart than `GAP_INTERVALS` sampling
  intervals.

Limits in lower case are those of `ProfileLimits`, which a family can change.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from dolly_assets.core.text import duration, percent
from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.profiling.analysis.finding import ProfileFinding, ProfileLimits
from dolly_assets.profiling.analysis.gpu_errors import gpu_errors
from dolly_assets.profiling.analysis.health import DeviceHealth
from dolly_assets.profiling.analysis.step_figures import RankFigures, StepFigures
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.record.events import Event
from dolly_assets.profiling.series.samples import (
    THERMAL_REASONS,
    Samples,
    Series,
    time_share,
    typical_interval_seconds,
)

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


def find(
    samples: Samples,
    hardware: Hardware,
    steps: StepFigures | None,
    span: tuple[float, float],
    saving_seconds: float,
    events: Sequence[Event],
    health: Sequence[DeviceHealth],
    limits: ProfileLimits,
) -> list[ProfileFinding]:
    """Find what stands out, the worst first.

    Args:
        samples: Of the span.
        hardware: What they were taken of.
        steps: The steps of the span, if there were any.
        span: Start and end, in UTC epoch seconds.
        saving_seconds: Time of the span in which no rank trained because the state was saved.
        events: What the driver and the sampler reported.
        health: Of the GPUs, in their order.
        limits: From where on something is a finding.
    """
    found = [
        *gpu_errors(samples, hardware, events, health),
        *_hot(health, samples, limits.thermal_percent / 100),
        *_idle(samples, hardware, limits.idle_percent / 100),
        *_hollow(samples, hardware),
        *_waiting_for_data(steps, hardware),
        *_stragglers(samples, hardware, steps, limits.straggler_percent / 100),
        *_memory(samples, hardware, limits.memory_percent / 100),
        *_saving(saving_seconds, span),
        *_unseen(samples, span),
    ]
    return sorted(found, key=lambda finding: -finding.weight)


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
    others = f", and so are {len(hot) - 1} more" if len(hot) > 1 else ""
    yield ProfileFinding(
        check="thermal_throttling",
        weight=max(0.3, hot[worst]),
        text=f"GPU {worst} is throttled by heat {percent(hot[worst])} of the time"
        f"{heat}{slowed}{others}",
        advice="All ranks wait for the slowest: check the machine's fans and filters, or lower the "
        "power limit of all GPUs (`nvidia-smi -pl`).",
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
        mean = float(np.mean(list(idle.values())))
        text = f"all {len(idle)} GPUs are idle {percent(mean)} of the time on average"
    else:
        others = f", and so are {len(idle) - 1} more" if len(idle) > 1 else ""
        who = f"GPU {worst}" if len(hardware.devices) > 1 else "the GPU"
        text = f"{who} is idle {percent(idle[worst])} of the time{others}"
    yield ProfileFinding(
        check="gpu_idle",
        weight=sum(idle.values()) / len(hardware.devices) + (0.5 if idle[worst] > 0.95 else 0),
        text=text,
        advice="The table of idle spans names the phase that ran: if it is loading or saving, "
        "train more epochs per run or save less often; if no phase uses that GPU, lower "
        "compute.gpus.",
    )


def _hollow(samples: Samples, hardware: Hardware) -> Iterator[ProfileFinding]:
    """Find GPUs that always run a kernel, but one that uses a part of the chip."""
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
                text=f"the driver reports GPU {device.index} as busy, but its SMs are active only "
                f"{mean:.0f} % of the time",
                advice="The kernels are too small for the chip: raise recipe.micro_batch_size or "
                "recipe.max_length.",
            )
            return  # the GPUs are alike: one finding is enough


def _waiting_for_data(steps: StepFigures | None, hardware: Hardware) -> Iterator[ProfileFinding]:
    if steps is None:
        return
    worst = max(steps.ranks, key=lambda rank: rank.share("data"))
    if worst.share("data") >= DATA_SHARE:
        yield ProfileFinding(
            check=None,
            weight=worst.share("data"),
            text=f"{_who(worst, hardware)} waits "
            f"{percent(worst.share('data'))} of each step for data",
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
            text=f"{_who(rank, hardware)} needs {duration(behind)} more than the others for its "
            "part of each step, and they wait for it "
            f"({percent(behind / steps.step_seconds)} of the step)",
            advice="Compare its clock, temperature and PCIe width with the others'; replace it if "
            "it stays slow.",
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
            text=f"GPU {slowest} runs at {clocks[slowest]:,.0f} MHz, the others at "
            f"{middle:,.0f} MHz: they wait for it",
            advice=f"Check temperature, power limit and clock settings of GPU {slowest} "
            "(`nvidia-smi -q -d CLOCK`).",
        )


def _slow_rank(steps: StepFigures | None, most: float) -> tuple[RankFigures, float] | None:
    """Return the rank furthest behind the median one, and by how many seconds of each step."""
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
            advice="A longer row can exhaust it: lower recipe.micro_batch_size, turn on "
            "gradient_checkpointing, or raise zero_stage.",
        )
    host = samples.get("host.memory_used_bytes")
    total = hardware.memory_total_bytes
    if len(host) and total and np.nanmax(host) >= most * total:
        yield ProfileFinding(
            check="memory_nearly_full",
            weight=0.2,
            text="the memory of the host was "
            f"{percent(float(np.nanmax(host)) / total)} full at its peak",
            advice="The kernel may kill the training: use fewer ranks, or a machine with more "
            "memory.",
        )


def _saving(saving_seconds: float, span: tuple[float, float]) -> Iterator[ProfileFinding]:
    share = saving_seconds / max(span[1] - span[0], 1e-9)
    if share >= STALL_SHARE:
        yield ProfileFinding(
            check=None,
            weight=share,
            text=f"checkpointing stalls training for {percent(share)} of the time",
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
            text=f"{percent(share)} of the span has no samples",
            advice="Check sampler.log: the sampler was killed, or the host was suspended.",
        )


def idle_share(utilization_percent: Series) -> float:
    """Return the share of the readings that are idle, 0 to 1."""
    readings = utilization_percent[~np.isnan(utilization_percent)]
    return float((readings < IDLE_BELOW_PERCENT).mean())


def unseen_seconds(time_seconds: Series, started_at: float, ended_at: float) -> float:
    """Return how much of the span has no samples."""
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
    """Return a rank's name: that of its GPU, or of the rank itself on CPUs."""
    places = [device.index for device in hardware.devices]
    return f"GPU {places[rank.rank]}" if rank.rank < len(places) else f"rank {rank.rank}"
