"""The report's headline: true sentences about the samples, and nothing they do not show.

The words mean:

- *busy N % of the time* (GPU): the mean of NVML's utilization, which is the share of time with at least one
kernel
  running. It does not say how much of the GPU the kernel filled.
- *idle* (GPU): a sample whose utilization is under `IDLE_BELOW_PERCENT`. Said of a GPU that was idle in at
least
  `IDLE_WORTH_SAYING` of its samples.
- *busy N % of the time* (CPUs): the mean over time and cores of the host's non-idle share, whoever used it.
- *nearly full*: a peak of at least `NEARLY_FULL` of the memory.
- *unseen*: time without samples, where two are further apart than `GAP_INTERVALS` sampling intervals. Said
from
  `UNSEEN_WORTH_SAYING` of the span.
"""

import numpy as np

from dolly_assets.profiling.devices import Device, Hardware
from dolly_assets.profiling.samples import Samples, Series, counter_increase, typical_interval_seconds

IDLE_BELOW_PERCENT = 5.0
IDLE_WORTH_SAYING = 0.05
NEARLY_FULL = 0.95
GAP_INTERVALS = 5
UNSEEN_WORTH_SAYING = 0.05
FEW_SAMPLES = 5


def verdict(samples: Samples, hardware: Hardware, started_at: float, ended_at: float) -> str:
    """One to three sentences. The span is in UTC epoch seconds."""
    if not len(samples):
        return f"No samples in these {ended_at - started_at:.1f} s: nothing can be said."
    sentences = [gpu_sentence(samples, hardware) if hardware.devices else cpu_sentence(samples, hardware)]
    unseen = unseen_seconds(samples.time_seconds, started_at, ended_at) / max(ended_at - started_at, 1e-9)
    if len(samples) < FEW_SAMPLES:
        sentences.append(f"Only {len(samples)} {'sample' if len(samples) == 1 else 'samples'}: a glimpse.")
    elif unseen >= UNSEEN_WORTH_SAYING:
        sentences.append(f"{_percent(100 * unseen)} of the span is unseen: it has no samples.")
    return " ".join(sentences)


def gpu_sentence(samples: Samples, hardware: Hardware) -> str:
    """Such as "2 GPUs busy 91 % of the time on average; GPU 1 idle 18 % of the time; 4.1 kWh used."."""
    clauses: list[str] = []
    utilization = {
        device.index: values
        for device in hardware.devices
        if len(values := samples.get(f"gpu.{device.index}.gpu_utilization_percent"))
    }
    count = len(hardware.devices)
    who = f"{count} GPUs" if count > 1 else "GPU"
    if utilization:
        mean = float(np.mean([np.nanmean(values) for values in utilization.values()]))
        clauses.append(f"{who} busy {_percent(mean)} of the time{' on average' if count > 1 else ''}")
        index, share = max(((i, idle_share(v)) for i, v in utilization.items()), key=lambda pair: pair[1])
        if share >= IDLE_WORTH_SAYING:
            name = f"GPU {index} " if count > 1 else ""
            clauses.append(f"{name}idle {_percent(100 * share)} of the time")
    else:
        clauses.append(f"{who}: utilization was not measured")
    clauses += _gpu_memory_clause(samples, hardware.devices)
    if energy := energy_joules(samples, hardware):
        clauses.append(f"{_energy(energy)} used")
    return "; ".join(clauses) + "."


def _gpu_memory_clause(samples: Samples, devices: tuple[Device, ...]) -> list[str]:
    peaks = [
        (float(np.nanmax(values)), device)
        for device in devices
        if len(values := samples.get(f"gpu.{device.index}.memory_used_bytes"))
    ]
    if not peaks:
        return []
    peak, device = max(peaks, key=lambda pair: pair[0] / (pair[1].memory_total_bytes or 1))
    where = f" on GPU {device.index}" if len(devices) > 1 else ""
    return [f"memory peaked at {_of(peak, device.memory_total_bytes)}{where}"]


def cpu_sentence(samples: Samples, hardware: Hardware) -> str:
    """Such as "CPUs busy 97 % of the time; the watched processes used 1.9 of 2 cores on average."."""
    clauses: list[str] = []
    if len(cpu := samples.get("host.cpu_percent")):
        clauses.append(f"CPUs busy {_percent(float(np.nanmean(cpu)))} of the time")
    if len(tree := samples.get("process.cpu_percent")):
        cores = float(np.nanmean(tree)) / 100
        clauses.append(f"the watched processes used {cores:.1f} of {hardware.cpu_count} cores on average")
    if len(memory := samples.get("process.memory_bytes")):
        peak = _of(float(np.nanmax(memory)), hardware.memory_total_bytes)
        clauses.append(f"their memory peaked at {peak}")
    return "; ".join(clauses) + "." if clauses else "Neither CPU nor memory was measured."


def idle_share(utilization_percent: Series) -> float:
    """Share of the readings that are idle, 0 to 1."""
    readings = utilization_percent[~np.isnan(utilization_percent)]
    return float((readings < IDLE_BELOW_PERCENT).mean())


def energy_joules(samples: Samples, hardware: Hardware) -> float | None:
    """What the GPUs' energy counters grew by, None where no GPU has one."""
    counters = [samples.get(f"gpu.{device.index}.energy_joules") for device in hardware.devices]
    grown = [counter_increase(counter) for counter in counters if len(counter) > 1]
    return sum(grown) if grown else None


def unseen_seconds(time_seconds: Series, started_at: float, ended_at: float) -> float:
    """Time of the span that no samples tell about."""
    interval = typical_interval_seconds(time_seconds)
    steps = np.diff(time_seconds, prepend=started_at, append=ended_at)
    return float(steps[steps > GAP_INTERVALS * interval].sum()) if interval else ended_at - started_at


def _of(value_bytes: float, total_bytes: int | None) -> str:
    text = f"{value_bytes / 2**30:.1f} GiB" if value_bytes >= 2**30 else f"{value_bytes / 2**20:.0f} MiB"
    if not total_bytes:
        return text
    full = ", nearly full" if value_bytes >= NEARLY_FULL * total_bytes else ""
    return f"{text} of {total_bytes / 2**30:.1f} GiB{full}"


def _percent(value: float) -> str:
    return "under 1 %" if 0 < value < 0.5 else f"{value:.0f} %"


def _energy(joules: float) -> str:
    watt_hours = joules / 3600
    return f"{watt_hours / 1000:.1f} kWh" if watt_hours >= 1000 else f"{watt_hours:.1f} Wh"
