"""What a report shows: which series go together, under which name, in which unit.

Charts and statistics both read this one table, and a new reading is added here. Panels without a
reading are left out. Knows nothing of charts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.series.samples import Samples, Series, Thinned, thin

GIB = 2**30
MIB = 2**20


class Curves(Mapping[str, Series]):
    """Series by label, in another unit. Each is read when it is accessed, and not kept."""

    def __init__(self, samples: Samples, names: Mapping[str, str], per_unit: float = 1.0) -> None:
        self._samples, self._per_unit = samples, per_unit
        self._names = {label: name for label, name in names.items() if len(samples.get(name))}

    def __getitem__(self, label: str) -> Series:
        return self._samples.get(self._names[label]) / self._per_unit

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Panel:
    """Curves that share an axis.

    Attributes:
        title: Such as "GPU memory".
        unit: Such as "GiB".
        curves: Values by label, each of shape (samples,).
        top: The axis' end where there is a natural one (100 %, the memory's size).
        from_zero: Whether the axis has to show zero.
        alike: Whether the curves are of one kind (the GPUs), so that their mean means something.
        shows_idle: Whether low values mean that the device is idle.
    """

    title: str
    unit: str
    curves: Mapping[str, Series]
    top: float | None = None
    from_zero: bool = True
    alike: bool = False
    shows_idle: bool = False


@dataclass(frozen=True)
class Stack:
    """Curves that add up, on their own times: UTC epoch seconds, shape (points,)."""

    title: str
    time_seconds: Series
    curves: Mapping[str, Series]


def panels_of(samples: Samples, hardware: Hardware) -> list[Panel]:
    """Return the panels that have something to show, the most informative first."""
    panels = [*_gpu_panels(samples, hardware), *_host_panels(samples, hardware)]
    return [panel for panel in panels if panel.curves]


def digest(panel: Panel, time_seconds: Series, points: int) -> Thinned:
    """Return a panel as one curve, with its lowest and highest values.

    It is the mean of curves that are alike, else the first curve.

    Args:
        panel: The panel; it must have a curve.
        time_seconds: When its samples were taken.
        points: The most points that the curve may have.
    """
    low = high = total = present = None
    times = time_seconds[:0]
    for label in panel.curves:
        thinned = thin(time_seconds, panel.curves[label], points)
        times, here = thinned.time_seconds, ~np.isnan(thinned.mean)
        if low is None or high is None or total is None or present is None:
            low, high, total, present = (
                thinned.low,
                thinned.high,
                np.nan_to_num(thinned.mean),
                here.astype(float),
            )
        else:
            low, high = np.fmin(low, thinned.low), np.fmax(high, thinned.high)
            total, present = total + np.nan_to_num(thinned.mean), present + here
        if not panel.alike:
            break
    assert low is not None
    assert high is not None
    assert total is not None
    assert present is not None
    mean = np.divide(total, present, out=np.full(len(total), np.nan), where=present > 0)
    return Thinned(times, low, mean, high)


def _gpu_panels(samples: Samples, hardware: Hardware) -> list[Panel]:
    def curves(reading: str, per_unit: float = 1.0) -> Curves:
        names = {
            f"GPU {device.index}": f"gpu.{device.index}.{reading}" for device in hardware.devices
        }
        return Curves(samples, names, per_unit)

    sizes = [device.memory_total_bytes or 0 for device in hardware.devices]
    memory_top = max(sizes, default=0) / GIB or None
    instances = {
        f"GPU {device.index} MIG {instance.index}": (
            f"gpu.{device.index}.mig.{instance.index}.memory_used_bytes"
        )
        for device in hardware.devices
        for instance in device.mig_instances
    }
    return [
        Panel(
            "GPU utilization",
            "%",
            curves("gpu_utilization_percent"),
            top=100,
            alike=True,
            shows_idle=True,
        ),
        Panel("GPU memory", "GiB", curves("memory_used_bytes", GIB), top=memory_top, alike=True),
        Panel("GPU power", "W", curves("power_watts"), alike=True),
        Panel("GPU temperature", "°C", curves("temperature_celsius"), from_zero=False, alike=True),
        Panel("GPU clock (SM)", "MHz", curves("sm_clock_mhz"), alike=True),
        Panel("SMs at work", "%", curves("sm_active_percent"), top=100, alike=True),
        Panel("Tensor cores at work", "%", curves("tensor_active_percent"), top=100, alike=True),
        Panel("GPU memory bus", "%", curves("memory_utilization_percent"), top=100, alike=True),
        Panel("MIG memory", "GiB", Curves(samples, instances, GIB), alike=True),
        Panel(
            "NVLink received", "MiB/s", curves("nvlink_received_bytes_per_second", MIB), alike=True
        ),
        Panel("PCIe received", "MiB/s", curves("pcie_received_bytes_per_second", MIB), alike=True),
    ]


def _host_panels(samples: Samples, hardware: Hardware) -> list[Panel]:
    memory_top = hardware.memory_total_bytes / GIB if hardware.memory_total_bytes else None
    memory = {"host": "host.memory_used_bytes", "process tree": "process.memory_bytes"}
    disk = {
        "read": "host.disk_read_bytes_per_second",
        "written": "host.disk_written_bytes_per_second",
    }
    network = {
        "received": "host.network_received_bytes_per_second",
        "sent": "host.network_sent_bytes_per_second",
    }
    host = Curves(samples, {"host": "host.cpu_percent"})
    tree = Curves(samples, {"process tree": "process.cpu_percent"}, hardware.cpu_count)
    return [
        Panel("CPU", "% of all cores", {**host, **tree}, top=100, shows_idle=True),
        Panel("Memory", "GiB", Curves(samples, memory, GIB), top=memory_top),
        Panel("Disk", "MiB/s", Curves(samples, disk, MIB)),
        Panel("Network", "MiB/s", Curves(samples, network, MIB)),
    ]
