"""The report's headline: one sentence that names the worst thing or says that nothing stands out; and what was busy.

*Busy N % of the time* (GPU) is the mean of NVML's utilization: the share of time with at least one
kernel running, which does not say how much of the GPU the kernel filled. Of CPUs it is the mean
over time and cores, whoever used them.
"""

from collections.abc import Sequence

import numpy as np

from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.profiling.analysis.findings import NEARLY_FULL, ProfileFinding
from dolly_assets.profiling.analysis.findings import percent as share_in_words
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.series.samples import Samples, counter_increase

FEW_SAMPLES = 5


def headline(
    found: Sequence[ProfileFinding], samples: Samples, span: tuple[float, float], cut: str
) -> str:
    """The sentence over a report.

    `cut` says when a training ended that did not end well, or is empty.
    """
    if cut:
        beginning = cut_sentence(cut)
    elif len(samples) and len(samples) < FEW_SAMPLES:
        beginning = (
            f"Only {len(samples)} {'sample' if len(samples) == 1 else 'samples'}: a glimpse. "
        )
    else:
        beginning = ""
    if not len(samples):
        return f"{beginning}No samples in these {span[1] - span[0]:.1f} s: nothing can be said."
    if not found:
        return f"{beginning}Nothing stands out."
    worst = found[0].text
    return f"{beginning}{worst[0].upper()}{worst[1:]}."


def cut_sentence(cut: str) -> str:
    """What stands before the verdict of a training that did not end well."""
    return f"Cut: {cut}. "


def busy_sentence(samples: Samples, hardware: Hardware) -> str:
    """What the devices did on the whole; empty without samples."""
    if not len(samples):
        return ""
    return gpu_sentence(samples, hardware) if hardware.devices else cpu_sentence(samples, hardware)


def gpu_sentence(samples: Samples, hardware: Hardware) -> str:
    """Such as "2 GPUs busy 91 % of the time on average; memory peaked at 71.2 GiB of 80.0 GiB; 4.1 kWh used."."""
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
        clauses.append(
            f"{who} busy {_percent(mean)} of the time{' on average' if count > 1 else ''}"
        )
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
        clauses.append(
            f"the watched processes used {cores:.1f} of {hardware.cpu_count} cores on average"
        )
    if len(memory := samples.get("process.memory_bytes")):
        peak = _of(float(np.nanmax(memory)), hardware.memory_total_bytes)
        clauses.append(f"their memory peaked at {peak}")
    return "; ".join(clauses) + "." if clauses else "Neither CPU nor memory was measured."


def energy_joules(samples: Samples, hardware: Hardware) -> float | None:
    """What the GPUs' energy counters grew by, None where no GPU has one."""
    counters = [samples.get(f"gpu.{device.index}.energy_joules") for device in hardware.devices]
    grown = [counter_increase(counter) for counter in counters if len(counter) > 1]
    return sum(grown) if grown else None


def _of(value_bytes: float, total_bytes: int | None) -> str:
    text = (
        f"{value_bytes / 2**30:.1f} GiB"
        if value_bytes >= 2**30
        else f"{value_bytes / 2**20:.0f} MiB"
    )
    if not total_bytes:
        return text
    full = ", nearly full" if value_bytes >= NEARLY_FULL * total_bytes else ""
    return f"{text} of {total_bytes / 2**30:.1f} GiB{full}"


def _percent(value: float) -> str:
    return share_in_words(value / 100)


def _energy(joules: float) -> str:
    watt_hours = joules / 3600
    return f"{watt_hours / 1000:.1f} kWh" if watt_hours >= 1000 else f"{watt_hours:.1f} Wh"
