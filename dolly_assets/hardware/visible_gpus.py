"""The NVIDIA GPUs that a training started on this machine may use.

Knows how CUDA reads `CUDA_VISIBLE_DEVICES`; asks the driver through `description.py`, and does
without nvidia-ml-py. Knows nothing of what the GPUs do.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class MigInstance:
    """A part of a GPU that works as a device of its own.

    Attributes:
        index: NVML's index within the GPU. Its samples are `gpu.<GPU>.mig.<index>.…`
        uuid: `MIG-…`
        name: Such as "NVIDIA A100-SXM4-80GB MIG 2g.20gb".
        memory_total_bytes: Its memory.
        gpu_instance: An id that older drivers name it by in `CUDA_VISIBLE_DEVICES`.
        compute_instance: The other id.
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
        name: Name of the product.
        uuid: `GPU-…`, the same across reboots; empty if the driver reports none.
        memory_total_bytes: Its memory.
        compute_capability: Such as "8.0".
        mig_mode: Whether it is partitioned into instances.
        mig_instances: All of its instances.
        ecc_mode: Whether memory errors are corrected.
        persistence_mode: Whether the driver keeps it initialized.
        power_limit_watts: The limit in force.
        pcie_generation: Of its link now.
        pcie_width: Lanes of its link now.
        numa_nodes: The nearest NUMA nodes.
        near_cpus: The CPUs of those nodes.
        missing: The readings that this device does not provide, each with the reason.
    """

    index: int
    name: str = "NVIDIA GPU"
    uuid: str = ""
    memory_total_bytes: int | None = None
    compute_capability: str = ""
    mig_mode: bool | None = None
    mig_instances: tuple[MigInstance, ...] = ()
    ecc_mode: bool | None = None
    persistence_mode: bool | None = None
    power_limit_watts: float | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    numa_nodes: tuple[int, ...] = ()
    near_cpus: tuple[int, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def cuda_device_count(self) -> int:
        """Number of devices that CUDA shows: one, or its visible MIG instances."""
        return sum(each.is_visible for each in self.mig_instances) if self.mig_mode else 1


def visible(devices: Sequence[Device], chosen: str | None) -> tuple[Device, ...]:
    """Return the GPUs, and their MIG instances, that `CUDA_VISIBLE_DEVICES` leaves to a training.

    It is read as CUDA reads it: indices in PCI bus order, `GPU-…` or `MIG-…` or prefixes of them,
    and with older drivers `MIG-<GPU's UUID>/<GPU instance>/<compute instance>`; what follows an
    entry that names nothing is ignored.

    Args:
        devices: All GPUs of the host.
        chosen: Value of the variable; None if it is not set.
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
    """Return the device as far as the entry names it; None if it names another."""
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


def visible_devices() -> tuple[Device, ...]:
    """Return the GPUs that a training started here would see; none without a driver.

    They are described and not read. Without nvidia-ml-py there are none either.
    """
    try:
        from dolly_assets.hardware.description import all_devices
    except ImportError:
        return ()
    return visible(all_devices(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def driver_cuda_version() -> str | None:
    """Return the newest CUDA version that the driver supports, such as `12.8`; None without one."""
    try:
        from dolly_assets.hardware.description import driver_versions
    except ImportError:
        return None
    versions = driver_versions()
    return versions.cuda or None if versions else None
