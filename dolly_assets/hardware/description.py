"""What the NVIDIA driver reports of each GPU, of its MIG instances and of itself, through NVML.

Needs nvidia-ml-py. Knows nothing of readings over time.
"""

from typing import Any, NamedTuple

from dolly_assets.hardware.nvml import Missing, pynvml, query
from dolly_assets.hardware.visible_gpus import Device, MigInstance


class DriverVersions(NamedTuple):
    """The versions that the driver reports; empty where it reports none.

    Attributes:
        driver: Such as "550.54.15".
        cuda: The newest CUDA that it supports, such as "12.4".
        nvml: Of its management library.
    """

    driver: str
    cuda: str
    nvml: str


def driver_versions() -> DriverVersions | None:
    """Return the driver's versions; None without a driver."""
    if isinstance(query("nvmlInit"), Missing):
        return None
    cuda = query("nvmlSystemGetCudaDriverVersion")
    return DriverVersions(
        driver=_or(query("nvmlSystemGetDriverVersion"), ""),
        cuda="" if isinstance(cuda, Missing) else f"{cuda // 1000}.{cuda % 1000 // 10}",
        nvml=_or(query("nvmlSystemGetNVMLVersion"), ""),
    )


def all_devices() -> list[Device]:
    """Return the description of each GPU of this machine; none without a driver."""
    if isinstance(query("nvmlInit"), Missing):
        return []
    return [describe(index, handle) for index, handle in device_handles().items()]


def device_handles() -> dict[int, Any]:
    """Return NVML's handles of all GPUs that answer, by index."""
    found = {
        index: query("nvmlDeviceGetHandleByIndex", index)
        for index in range(_or(query("nvmlDeviceGetCount"), 0))
    }
    return {index: handle for index, handle in found.items() if not isinstance(handle, Missing)}


def mig_handles(handle: Any) -> dict[int, Any]:
    """Return NVML's handles of a GPU's MIG instances, by index."""
    count = _or(query("nvmlDeviceGetMaxMigDeviceCount", handle), 0)
    found = {
        index: query("nvmlDeviceGetMigDeviceHandleByIndex", handle, index) for index in range(count)
    }
    return {index: each for index, each in found.items() if not isinstance(each, Missing)}


def describe(index: int, handle: Any) -> Device:
    """Return the description of a GPU, with all of its MIG instances."""
    capability = query("nvmlDeviceGetCudaComputeCapability", handle)
    power_limit = query("nvmlDeviceGetEnforcedPowerLimit", handle)
    mig_mode = _mode(query("nvmlDeviceGetMigMode", handle))
    instances = mig_handles(handle).items() if mig_mode else ()
    return Device(
        index=index,
        name=_or(query("nvmlDeviceGetName", handle), Device.name),
        uuid=_or(query("nvmlDeviceGetUUID", handle), ""),
        memory_total_bytes=_memory_total(handle),
        compute_capability=""
        if isinstance(capability, Missing)
        else ".".join(str(part) for part in capability),
        mig_mode=mig_mode,
        mig_instances=tuple(_instance(place, each) for place, each in instances),
        ecc_mode=_mode(query("nvmlDeviceGetEccMode", handle)),
        persistence_mode=_mode(query("nvmlDeviceGetPersistenceMode", handle)),
        power_limit_watts=None if isinstance(power_limit, Missing) else power_limit / 1000,
        pcie_generation=_or(query("nvmlDeviceGetCurrPcieLinkGeneration", handle), None),
        pcie_width=_or(query("nvmlDeviceGetCurrPcieLinkWidth", handle), None),
        numa_nodes=_bits(
            query("nvmlDeviceGetMemoryAffinity", handle, 4, pynvml.NVML_AFFINITY_SCOPE_NODE)
        ),
        near_cpus=_bits(query("nvmlDeviceGetCpuAffinity", handle, 16)),
    )


def _instance(index: int, handle: Any) -> MigInstance:
    return MigInstance(
        index=index,
        uuid=_or(query("nvmlDeviceGetUUID", handle), ""),
        name=_or(query("nvmlDeviceGetName", handle), ""),
        memory_total_bytes=_memory_total(handle),
        gpu_instance=_or(query("nvmlDeviceGetGpuInstanceId", handle), None),
        compute_instance=_or(query("nvmlDeviceGetComputeInstanceId", handle), None),
    )


def _memory_total(handle: Any) -> int | None:
    memory = query("nvmlDeviceGetMemoryInfo", handle)
    return None if isinstance(memory, Missing) else memory.total


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if isinstance(value, Missing) else value


def _mode(value: Any) -> bool | None:
    """Return whether a mode is on, given as [current, pending] or as a single state."""
    if isinstance(value, Missing):
        return None
    return bool(value[0] if isinstance(value, list) else value)


def _bits(words: Any) -> tuple[int, ...]:
    """Return the positions of the bits that are set in 64-bit words."""
    if isinstance(words, Missing):
        return ()
    return tuple(
        64 * place + bit for place, word in enumerate(words) for bit in range(64) if word >> bit & 1
    )
