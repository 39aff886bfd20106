"""The hardware and software of a machine, `devices.json`, written once by the sampler.

Names carry their units; what a driver does not report is None or empty. Knows no NVML, and nothing
of readings over time.
"""

import importlib.metadata
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dolly_assets.hardware.visible_gpus import Device, MigInstance

DEVICES_FILE = "devices.json"
VERSIONS_FILE = "versions.json"
PACKAGES = ("torch", "deepspeed", "transformers", "accelerate", "nvidia-ml-py")
_CUDA_WHEELS = {
    "nccl": "nvidia-nccl-cu",
    "cudnn": "nvidia-cudnn-cu",
    "cuda_runtime": "nvidia-cuda-runtime-cu",
}
DRIVER_SILENT = "the NVIDIA driver has not answered yet"  # a reason why there are no devices


@dataclass(frozen=True)
class Link:
    """The connection of two GPUs, by index.

    Attributes:
        first: Index of one GPU.
        second: Index of the other.
        level: The nearest component that both are attached to, as in `nvidia-smi topo -m`: PIX
            (one PCIe switch), PXB (several), PHB (a CPU's PCIe bridge), NODE (a NUMA node), SYS
            (across sockets), or "same board".
        nvlink_count: NVLinks between them, direct or through a switch.
        p2p: "ok" if each can read the other's memory, else why not.
    """

    first: int
    second: int
    level: str | None = None
    nvlink_count: int = 0
    p2p: str | None = None


@dataclass(frozen=True)
class Hardware:
    """What a sampler observes, and the software that runs on it.

    Attributes:
        devices: The visible GPUs.
        no_device_reason: Why `devices` is empty, else an empty string.
        links: The connection of each pair of `devices`.
        host: Name of the host.
        cpu_count: Logical CPUs of the host.
        memory_total_bytes: Memory of the host, not the limit of a container.
        driver_version: Of the NVIDIA driver.
        cuda_driver_version: The newest CUDA that the driver supports, such as "12.4".
        nvml_version: Of the driver's management library.
        container_cpu_limit: How many CPUs this container may use; None without a limit.
        container_memory_limit_bytes: How much memory it may use; None without a limit.
        image: The container image, from the environment variable DOLLY_IMAGE.
        versions: Of packages, by name; `nccl`, `cudnn` and `cuda_runtime` are those that torch runs
            with.
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
    image: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Hardware":
        """Read what `write` wrote, and the versions that the training wrote next to it.

        A missing file becomes the reason why there are no devices: reports must not depend on it.
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


def installed_versions() -> dict[str, str]:
    """Return the versions of the installed packages, without importing them.

    NCCL, cuDNN and the CUDA runtime (`nccl`, `cudnn`, `cuda_runtime`) are those of torch's wheels.
    A torch built with those of the system has none: see `torch_versions`.
    """
    names = {package: package for package in PACKAGES}
    for requirement in _requirements("torch"):
        wheel = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        names |= {name: wheel for name, prefix in _CUDA_WHEELS.items() if wheel.startswith(prefix)}
    found = {name: _version(package) for name, package in names.items()}
    return {name: version for name, version in found.items() if version}


def _requirements(package: str) -> list[str]:
    try:
        return importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_torch_versions(folder: Path) -> None:
    """Write what torch runs with next to the samples; for a process that has it imported."""
    partial = folder / f"{VERSIONS_FILE}.partial"
    partial.write_text(json.dumps(torch_versions(), indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / VERSIONS_FILE)


def torch_versions() -> dict[str, str]:
    """Return the versions of torch, and of the CUDA, NCCL and cuDNN that it runs with.

    Imports torch.
    """
    import torch

    versions: dict[str, str] = {"torch": str(torch.__version__)}
    if torch.version.cuda:
        versions["cuda_runtime"] = torch.version.cuda
    if torch.backends.cudnn.is_available():
        versions["cudnn"] = str(torch.backends.cudnn.version())
    if torch.cuda.is_available() and torch.distributed.is_nccl_available():
        from torch.cuda import nccl

        versions["nccl"] = ".".join(str(part) for part in nccl.version())
    return versions


def read_torch_versions(folder: Path) -> dict[str, str]:
    """Return what `write_torch_versions` wrote; empty if it wrote nothing."""
    file = folder / VERSIONS_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
