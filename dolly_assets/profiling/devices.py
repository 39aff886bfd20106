"""The one door to NVML and psutil: what hardware there is, and what it reads right now.

Every reading may be missing, and none may crash a training: a field that a driver, a container or a MIG slice
does not give is left out of the dictionary. Names carry their units. Knows nothing of files, intervals or
reports.
"""

import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Device:
    """One NVIDIA GPU.

    Attributes:
        index: NVML's index, which is the PCI bus order (`CUDA_DEVICE_ORDER=PCI_BUS_ID`).
        name: The product's name.
        uuid: `GPU-…`, the same across reboots; empty where the driver gives none.
        memory_total_bytes: None where the driver does not say.
        missing: The fields of `GPU_FIELDS` that this device does not give.
    """

    index: int
    name: str = "NVIDIA GPU"
    uuid: str = ""
    memory_total_bytes: int | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hardware:
    """What a sampler has in front of it.

    Attributes:
        devices: The visible GPUs.
        no_device_reason: Why `devices` is empty, else an empty string.
        host: The host's name.
        cpu_count: Logical CPUs of the host.
        memory_total_bytes: The host's memory, not a container's limit.
    """

    devices: tuple[Device, ...] = ()
    no_device_reason: str = ""
    host: str = ""
    cpu_count: int = 1
    memory_total_bytes: int | None = None

    def write(self, path: Path) -> None:
        """Writes it as JSON, whole or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Hardware":
        """Reads what `write` wrote; a missing file becomes a reason, since reports must not depend on it."""
        if not path.exists():
            return cls(no_device_reason=f"{path.name} is missing, the sampler did not start")
        fields = json.loads(path.read_text())
        devices = [Device(**{**device, "missing": tuple(device["missing"])}) for device in fields["devices"]]
        return cls(**{**fields, "devices": tuple(devices)})


def find_hardware() -> Hardware:
    """Looks at the host and its GPUs."""
    import psutil

    devices, reason = find_devices()
    return Hardware(
        devices=tuple(devices),
        no_device_reason=reason,
        host=platform.node(),
        cpu_count=psutil.cpu_count() or 1,
        memory_total_bytes=psutil.virtual_memory().total,
    )


# --- GPUs, through NVML. Each query is one call and gives the fields it fills; new readings are new rows
# here.

_Query = Callable[[Any, Any], dict[str, float]]


def _utilization(nvml: Any, handle: Any) -> dict[str, float]:
    # Share of the driver's last sample period (1/6 to 1 s) with a kernel running, resp. memory being read or
    # written.
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return {"gpu_utilization_percent": rates.gpu, "memory_utilization_percent": rates.memory}


def _memory(nvml: Any, handle: Any) -> dict[str, float]:
    return {"memory_used_bytes": nvml.nvmlDeviceGetMemoryInfo(handle).used}


def _power(nvml: Any, handle: Any) -> dict[str, float]:
    return {"power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000}  # from milliwatts


def _energy(nvml: Any, handle: Any) -> dict[str, float]:
    # Millijoules since the driver was loaded; Volta and newer.
    return {"energy_joules": nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000}


def _temperature(nvml: Any, handle: Any) -> dict[str, float]:
    return {"temperature_celsius": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)}


def _sm_clock(nvml: Any, handle: Any) -> dict[str, float]:
    return {"sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)}


_QUERIES: tuple[_Query, ...] = (_utilization, _memory, _power, _energy, _temperature, _sm_clock)
GPU_FIELDS = (
    "gpu_utilization_percent",
    "memory_utilization_percent",
    "memory_used_bytes",
    "power_watts",
    "energy_joules",
    "temperature_celsius",
    "sm_clock_mhz",
)


def find_devices() -> tuple[list[Device], str]:
    """The GPUs this process may use, or an empty list and the reason.

    `CUDA_VISIBLE_DEVICES` is respected, as indices in PCI bus order or as UUIDs; NVML itself ignores it, and
    a neighbour's GPU is not part of this training's profile.
    """
    try:
        import pynvml as nvml
    except ImportError:
        return [], "the package nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
        devices = [_describe(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        return [], str(error)
    if not devices:
        return [], "the NVIDIA driver reports no device"
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = _visible(devices, chosen)
    return devices, "" if devices else f"CUDA_VISIBLE_DEVICES={chosen!r} hides every device"


def _describe(nvml: Any, index: int) -> Device:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    described: dict[str, Any] = {}
    for field, query in (
        ("name", lambda: nvml.nvmlDeviceGetName(handle)),
        ("uuid", lambda: nvml.nvmlDeviceGetUUID(handle)),
        ("memory_total_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total),
    ):
        with suppress(nvml.NVMLError):
            described[field] = query()
    given = read_device(Device(index))
    return Device(index, **described, missing=tuple(field for field in GPU_FIELDS if field not in given))


def _visible(devices: list[Device], chosen: str | None) -> list[Device]:
    if chosen is None or "MIG-" in chosen:  # a MIG slice's parent is not named by its UUID: keep all
        return devices
    wanted = [part.strip() for part in chosen.split(",") if part.strip()]
    return [
        device
        for device in devices
        if any(part == str(device.index) or (device.uuid and device.uuid.startswith(part)) for part in wanted)
    ]


def read_device(device: Device) -> dict[str, float]:
    """Reads the fields of `GPU_FIELDS` that the device gives now; a lost GPU gives none."""
    import pynvml as nvml

    values: dict[str, float] = {}
    for query in _QUERIES:
        with suppress(nvml.NVMLError):
            values.update(query(nvml, nvml.nvmlDeviceGetHandleByIndex(device.index)))
    return values


# --- The host and a process tree, through psutil.


def read_host() -> dict[str, float]:
    """Reads the host: `cpu_percent` (of all CPUs, since the last call), memory, and the counters of disk and
    network.

    `memory_used_bytes` is what is not available without swapping. Disk and network are bytes since boot, of
    the whole host (network: of this network namespace), and are left out where the kernel hides them.
    """
    import psutil

    memory = psutil.virtual_memory()
    values: dict[str, float] = {
        "cpu_percent": psutil.cpu_percent(),
        "memory_used_bytes": memory.total - memory.available,
    }
    with suppress(OSError, RuntimeError):
        if disk := psutil.disk_io_counters():
            values |= {"disk_read_bytes": disk.read_bytes, "disk_written_bytes": disk.write_bytes}
    with suppress(OSError, RuntimeError):
        if network := psutil.net_io_counters():
            values |= {
                "network_received_bytes": network.bytes_recv,
                "network_sent_bytes": network.bytes_sent,
            }
    return values


class ProcessTree:
    """A process and its descendants, this process itself left out.

    CPU time is the tree's own plus what its reaped children had used, so a child that comes and goes between
    two readings is still counted, once. Its resolution is the kernel's tick, usually 10 ms.
    """

    def __init__(self, pid: int) -> None:
        import psutil

        self._psutil = psutil
        self._pids: set[int] = set()
        self._tree: list[psutil.Process] = []
        try:
            self._root: psutil.Process | None = psutil.Process(pid)
        except psutil.NoSuchProcess:
            self._root = None

    def is_alive(self) -> bool:
        """False once the root has ended, even where its pid was given away or nobody reaped it."""
        if self._root is None:
            return False
        try:
            return self._root.is_running() and self._root.status() != self._psutil.STATUS_ZOMBIE
        except self._psutil.NoSuchProcess:
            return False

    def read(self) -> dict[str, float]:
        """Reads `cpu_seconds` (used so far), `memory_bytes` and `process_count`; nothing once the root has
        ended.

        `memory_bytes` is the sum of resident sizes: pages that processes share are counted for each of them.
        """
        self._refresh()
        cpu_seconds, memory_bytes, count = 0.0, 0, 0
        for process in self._tree:
            with suppress(self._psutil.Error):
                cpu_seconds += sum(process.cpu_times()[:4])  # user, system, and both again of reaped children
                memory_bytes += process.memory_info().rss
                count += 1
        if not count:
            return {}
        return {"cpu_seconds": cpu_seconds, "memory_bytes": memory_bytes, "process_count": count}

    def _refresh(self) -> None:
        """Lists the tree anew when the host's processes changed: asking each for its parent is dear."""
        pids = set(self._psutil.pids())
        if self._root is None or pids == self._pids:
            return
        self._pids = pids
        self._tree = []
        with suppress(self._psutil.Error):
            family = [self._root, *self._root.children(recursive=True)]
            self._tree = [process for process in family if process.pid != os.getpid()]
