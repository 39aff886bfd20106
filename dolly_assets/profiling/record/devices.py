"""What hardware and software there is and how it is connected: `devices.json`, written once by the sampler.

Names carry their units; what a driver does not say is None or empty. Knows no NVML, and nothing of
readings over time.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dolly_assets.profiling.record.versions import read_torch_versions

DEVICES_FILE = "devices.json"
DRIVER_SILENT = "the NVIDIA driver has not answered yet"  # a reason why there are no devices


@dataclass(frozen=True)
class MigInstance:
    """A part of a GPU that works as one of its own.

    Attributes:
        index: NVML's, within the GPU. Its samples are `gpu.<GPU>.mig.<index>.…`
        uuid: `MIG-…`
        name: Such as "NVIDIA A100-SXM4-80GB MIG 2g.20gb".
        gpu_instance: The ids that older drivers name it by in `CUDA_VISIBLE_DEVICES`.
        is_visible: Whether this training may use it.
    """

    index: int
    uuid: str = ""
    name: str = ""
    memory_total_bytes: int | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    is_visible: bool = True


@dataclass(frozen=True)
class Device:
    """One NVIDIA GPU.

    Attributes:
        index: NVML's index, which is the PCI bus order (`CUDA_DEVICE_ORDER=PCI_BUS_ID`).
        name: The product's name.
        uuid: `GPU-…`, the same across reboots; empty where the driver gives none.
        compute_capability: Such as "8.0".
        mig_mode: Whether it is cut into instances, all of which are listed.
        power_limit_watts: The one in force.
        numa_nodes: Those nearest to it, with their CPUs in `near_cpus`.
        missing: The readings that this device does not give, each with the reason.
    """

    index: int
    name: str = "NVIDIA GPU"
    uuid: str = ""
    memory_total_bytes: int | None = None
    compute_capability: str = ""
    bus_id: str = ""
    mig_mode: bool | None = None
    mig_instances: tuple[MigInstance, ...] = ()
    ecc_mode: bool | None = None
    persistence_mode: bool | None = None
    power_limit_watts: float | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    numa_nodes: tuple[int, ...] = ()
    near_cpus: tuple[int, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def cuda_device_count(self) -> int:
        """As how many devices CUDA shows it: itself, or its visible MIG instances."""
        return sum(each.is_visible for each in self.mig_instances) if self.mig_mode else 1


@dataclass(frozen=True)
class Link:
    """The connection of two GPUs, by index.

    Attributes:
        level: The nearest thing that both hang on, as in `nvidia-smi topo -m`: PIX (one PCIe
            switch), PXB (several), PHB (a CPU's PCIe bridge), NODE (a NUMA node), SYS (across
            sockets), or "same board".
        nvlink_count: Links between them, direct or through a switch.
        p2p: "ok" where each can read the other's memory, else why not.
    """

    first: int
    second: int
    level: str | None = None
    nvlink_count: int = 0
    p2p: str | None = None


@dataclass(frozen=True)
class Hardware:
    """What a sampler has in front of it.

    Attributes:
        devices: The visible GPUs.
        no_device_reason: Why `devices` is empty, else an empty string.
        links: Of each pair of `devices`.
        cuda_driver_version: The newest CUDA that the driver can run, such as "12.4".
        host: The host's name.
        cpu_count: Logical CPUs of the host.
        memory_total_bytes: The host's memory, not a container's limit.
        container_cpu_limit: CPUs' time that this container may use, None without a limit.
        container_memory_limit_bytes: Likewise.
        image_digest: What the environment variable DOLLY_IMAGE says.
        versions: Of the packages, by name; `nccl`, `cudnn` and `cuda_runtime` are those that torch
            runs with.
    """

    devices: tuple[Device, ...] = ()
    no_device_reason: str = ""
    host: str = ""
    cpu_count: int = 1
    memory_total_bytes: int | None = None
    links: tuple[Link, ...] = ()
    driver_version: str = ""
    cuda_driver_version: str = ""
    nvml_version: str = ""
    container_cpu_limit: float | None = None
    container_memory_limit_bytes: int | None = None
    image_digest: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes it as JSON, whole or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Hardware":
        """Reads what `write` wrote, and the versions that the training wrote beside it.

        A missing file becomes a reason, since reports must not depend on it.
        """
        if not path.exists():
            return cls(no_device_reason=f"{path.name} is missing, the sampler did not start")
        fields = json.loads(path.read_text())
        fields["devices"] = tuple(_device(each) for each in fields["devices"])
        fields["links"] = tuple(Link(**each) for each in fields["links"])
        fields["versions"] |= read_torch_versions(path.parent)
        return cls(**fields)


def _device(fields: dict[str, Any]) -> Device:
    instances = tuple(MigInstance(**each) for each in fields.pop("mig_instances"))
    numa_nodes, near_cpus = tuple(fields.pop("numa_nodes")), tuple(fields.pop("near_cpus"))
    return Device(**fields, numa_nodes=numa_nodes, near_cpus=near_cpus, mig_instances=instances)


def visible(devices: Sequence[Device], chosen: str | None) -> tuple[Device, ...]:
    """The GPUs, and in them the MIG instances, that `CUDA_VISIBLE_DEVICES` leaves to a training.

    As CUDA reads it: indices in PCI bus order, `GPU-…` or `MIG-…` or their beginnings, and of older
    drivers `MIG-<GPU's UUID>/<GPU instance>/<compute instance>`; what follows an entry that names
    nothing does not count.

    Args:
        devices: All GPUs of the host.
        chosen: The variable's value, None when it is not set.
    """
    if chosen is None:
        return tuple(devices)
    kept: dict[int, Device] = {}
    for entry in (part.strip() for part in chosen.split(",")):
        found = next((shown for device in devices if (shown := _shown(device, entry))), None)
        if found is None:
            break
        kept[found.index] = _united(kept[found.index], found) if found.index in kept else found
    return tuple(kept[index] for index in sorted(kept))


def _shown(device: Device, entry: str) -> Device | None:
    """The device as far as the entry names it; None where it names another."""
    if entry == str(device.index) or (entry.startswith("GPU-") and device.uuid.startswith(entry)):
        return device
    if not entry.startswith("MIG-"):
        return None
    instances = tuple(
        replace(each, is_visible=_names(entry, device, each)) for each in device.mig_instances
    )
    return (
        replace(device, mig_instances=instances)
        if any(each.is_visible for each in instances)
        else None
    )


def _names(entry: str, device: Device, instance: MigInstance) -> bool:
    by_ids = f"MIG-{device.uuid}/{instance.gpu_instance}/{instance.compute_instance}"
    return instance.uuid.startswith(entry) or entry == by_ids


def _united(one: Device, other: Device) -> Device:
    pairs = zip(one.mig_instances, other.mig_instances, strict=True)
    return replace(
        one,
        mig_instances=tuple(replace(a, is_visible=a.is_visible or b.is_visible) for a, b in pairs),
    )
