"""What a report shows: which series go together, under which name, in which unit.

The single table of it: charts, statistics and later readings all go through here. Panels without a reading
are left out.
"""

from dataclasses import dataclass

from dolly_assets.profiling.devices import Hardware
from dolly_assets.profiling.samples import Samples, Series

GIB = 2**30
MIB = 2**20


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
    """

    title: str
    unit: str
    curves: dict[str, Series]
    top: float | None = None
    from_zero: bool = True
    alike: bool = False


def panels_of(samples: Samples, hardware: Hardware) -> list[Panel]:
    """The panels that have something to show, the most telling first."""
    panels = [*_gpu_panels(samples, hardware), *_host_panels(samples, hardware)]
    return [panel for panel in panels if panel.curves]


def _gpu_panels(samples: Samples, hardware: Hardware) -> list[Panel]:
    def curves(field: str, per_unit: float = 1.0) -> dict[str, Series]:
        return _present(
            samples,
            {f"GPU {device.index}": f"gpu.{device.index}.{field}" for device in hardware.devices},
            per_unit,
        )

    sizes = [device.memory_total_bytes or 0 for device in hardware.devices]
    memory_top = max(sizes, default=0) / GIB or None
    return [
        Panel("GPU utilization", "%", curves("gpu_utilization_percent"), top=100, alike=True),
        Panel("GPU memory", "GiB", curves("memory_used_bytes", GIB), top=memory_top, alike=True),
        Panel("GPU memory bus", "%", curves("memory_utilization_percent"), top=100, alike=True),
        Panel("GPU power", "W", curves("power_watts"), alike=True),
        Panel("GPU temperature", "°C", curves("temperature_celsius"), from_zero=False, alike=True),
        Panel("GPU clock (SM)", "MHz", curves("sm_clock_mhz"), alike=True),
    ]


def _host_panels(samples: Samples, hardware: Hardware) -> list[Panel]:
    memory_top = hardware.memory_total_bytes / GIB if hardware.memory_total_bytes else None
    memory = {"host": "host.memory_used_bytes", "process tree": "process.memory_bytes"}
    disk = {"read": "host.disk_read_bytes_per_second", "written": "host.disk_written_bytes_per_second"}
    network = {
        "received": "host.network_received_bytes_per_second",
        "sent": "host.network_sent_bytes_per_second",
    }
    cpu = _present(samples, {"host": "host.cpu_percent"})
    cpu |= _present(samples, {"process tree": "process.cpu_percent"}, hardware.cpu_count)
    return [
        Panel("CPU", "% of all cores", cpu, top=100),
        Panel("Memory", "GiB", _present(samples, memory, GIB), top=memory_top),
        Panel("Disk", "MiB/s", _present(samples, disk, MIB)),
        Panel("Network", "MiB/s", _present(samples, network, MIB)),
    ]


def _present(samples: Samples, names: dict[str, str], per_unit: float = 1.0) -> dict[str, Series]:
    found = {label: samples.get(name) for label, name in names.items()}
    return {label: values / per_unit for label, values in found.items() if len(values)}
