"""Which versions of the training's packages are here: those installed, and those that torch really runs with."""

import importlib.metadata
import json
import re
from pathlib import Path

VERSIONS_FILE = "versions.json"
PACKAGES = ("torch", "deepspeed", "transformers", "accelerate", "nvidia-ml-py")
_CUDA_WHEELS = {
    "nccl": "nvidia-nccl-cu",
    "cudnn": "nvidia-cudnn-cu",
    "cuda_runtime": "nvidia-cuda-runtime-cu",
}


def installed_versions() -> dict[str, str]:
    """The versions of the installed packages, without importing them; what isn't installed is left out.

    NCCL, cuDNN and CUDA's runtime (`nccl`, `cudnn`, `cuda_runtime`) are those of torch's wheels. A
    torch that was built with the system's has none: `torch_versions` tells them.
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
    """For the training process, which has torch imported: writes what it runs with beside the samples."""
    partial = folder / f"{VERSIONS_FILE}.partial"
    partial.write_text(json.dumps(torch_versions(), indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / VERSIONS_FILE)


def torch_versions() -> dict[str, str]:
    """What torch says of itself and of the CUDA, NCCL and cuDNN that it runs with.

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
    """What `write_torch_versions` wrote; empty when it wrote nothing."""
    file = folder / VERSIONS_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
