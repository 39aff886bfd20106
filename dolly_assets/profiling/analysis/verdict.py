"""The headline of a report: its worst finding in a sentence, and how busy the devices were.

*Busy N % of the time* (GPU) is the mean of NVML's utilization: the share of time with at least one
kernel running, which does not tell how much of the GPU the kernel filled. Of CPUs it is the mean
over time and cores, whichever process used them.
"""

from collections.abc import Sequence

import numpy as np

from dolly_assets.core.text import count, duration, energy, memory_size, percent
from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.profiling.analysis.finding import ProfileFinding
from dolly_assets.profiling.analysis.findings import NEARLY_FULL
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.series.samples import Samples, counter_increase

FEW_SAMPLES = 5


def headline(
    found: Sequence[ProfileFinding], samples: Samples, span: tuple[float, float], interrupted: str
) -> str:
    """Return the sentence over a report.

    Args:
        found: What stands out, the worst first.
        samples: Of the span.
        span: Start and end, in UTC epoch seconds.
        interrupted: When and how the training was interrupted; empty if it was not.
    """
    if interrupted:
        beginning = interruption_sentence(interrupted)
    elif len(samples) and len(samples) < FEW_SAMPLES:
        beginning = f"Only {count(len(samples), 'sample')}: a very short run. "
    else:
        beginning = ""
    if not len(samples):
        return f"{beginning}No samples in {duration(span[1] - span[0])}: nothing was measured."
    if not found:
        return f"{beginning}Nothing stands out."
    worst = found[0].text
    return f"{beginning}{worst[0].upper()}{worst[1:]}."


def interruption_sentence(interrupted: str) -> str:
    """Return what precedes the verdict of a training that was interrupted."""
    return f"Interrupted: {interrupted}. "


def busy_sentence(samples: Samples, hardware: Hardware) -> str:
    """Return how busy the devices were; empty without samples."""
    if not len(samples):
        return ""
    return gpu_sentence(samples, hardware) if hardware.devices else cpu_sentence(samples, hardware)


def gpu_sentence(samples: Samples, hardware: Hardware) -> str:
    """Return such as `2 GPUs busy 91 % of the time on average; memory peaked at 71.2 GiB`."""
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
            f"{who} busy {percent(mean / 100)} of the time{' on average' if count > 1 else ''}"
        )
    else:
        clauses.append(f"{who}: utilization was not measured")
    clauses += _gpu_memory_clause(samples, hardware.devices)
    if joules := energy_joules(samples, hardware):
        clauses.append(f"{energy(joules)} used")
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
    return [f"memory peaked at {_fullness(peak, device.memory_total_bytes)}{where}"]


def cpu_sentence(samples: Samples, hardware: Hardware) -> str:
    """Return such as `CPUs busy 97 % of the time; the processes used 1.9 of 2 cores`."""
    clauses: list[str] = []
    if len(cpu := samples.get("host.cpu_percent")):
        clauses.append(f"CPUs busy {percent(float(np.nanmean(cpu)) / 100)} of the time")
    if len(tree := samples.get("process.cpu_percent")):
        cores = float(np.nanmean(tree)) / 100
        clauses.append(
            f"the watched processes used {cores:.1f} of {hardware.cpu_count} cores on average"
        )
    if len(memory := samples.get("process.memory_bytes")):
        peak = _fullness(float(np.nanmax(memory)), hardware.memory_total_bytes)
        clauses.append(f"their memory peaked at {peak}")
    return "; ".join(clauses) + "." if clauses else "Neither CPU nor memory was measured."


def energy_joules(samples: Samples, hardware: Hardware) -> float | None:
    """Return by how much the GPUs' energy counters grew; None where no GPU has one."""
    counters = [samples.get(f"gpu.{device.index}.energy_joules") for device in hardware.devices]
    grown = [counter_increase(counter) for counter in counters if len(counter) > 1]
    return sum(grown) if grown else None


def _fullness(value_bytes: float, total_bytes: int | None) -> str:
    text = memory_size(value_bytes)
    if not total_bytes:
        return text
    full = ", nearly full" if value_bytes >= NEARLY_FULL * total_bytes else ""
    return f"{text} of {memory_size(total_bytes)}{full}"
