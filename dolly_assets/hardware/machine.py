"""The machines that a training is planned for: those named in YAML, or this one.

Knows nothing of trainings and plans.
"""

import time
from typing import Literal

import numpy as np
from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.text import count
from dolly_assets.hardware.control_group import ControlGroup
from dolly_assets.hardware.device_table import Precision, device_spec, device_table

_MATRIX = 1024


class Machines(Config):
    """Identical machines that train together. What is not known is None, and is not checked."""

    kind: Literal["gpu", "cpu"] = Field(description="What trains.")
    device: str | None = Field(description="Name of the GPU; None if it is not known.")
    nodes: int = Field(ge=1, description="Number of machines.")
    ranks: int = Field(
        ge=1, description="Processes on all machines: one for each GPU, or CPU processes."
    )
    device_bytes: int | None = Field(description="Memory of one GPU.")
    host_bytes: int | None = Field(description="Memory of one machine.")

    @property
    def ranks_per_node(self) -> int:
        """Number of ranks on one machine."""
        return self.ranks // self.nodes

    @property
    def name(self) -> str:
        """Such as `8 × A100-SXM4-80GB`."""
        if self.kind == "cpu":
            return count(self.ranks, "CPU rank")
        return f"{self.ranks} × {self.device or 'GPU of unknown kind'}"

    def peak_flops(self, precision: Precision) -> float | None:
        """Return the peak of all devices together, in operations per second; None if not known.

        For CPUs, nothing is published about the share that a process may use, so it is measured.
        """
        if self.kind == "cpu":
            return measured_flops() * self.nodes
        spec = device_spec(self.device or "")
        peak = spec and (spec.peak_flops(precision) or spec.peak_flops("fp32"))
        return peak * self.ranks if peak else None


def named_gpus(device: str, *, gpus: int, nodes: int, host_bytes: int) -> Machines:
    """Return machines with a given GPU, which need not exist here.

    Args:
        device: Name of the GPU, as in the device table.
        gpus: GPUs of each machine.
        nodes: Number of machines.
        host_bytes: Memory of each machine.

    Raises:
        ConfigurationError: The device is not in the table, or no number of GPUs is given.
    """
    spec = device_spec(device)
    if spec is None:
        known = ", ".join(each.name for each in device_table())
        raise ConfigurationError(f"compute.device {device!r} is unknown: expected one of {known}")
    if not gpus:
        raise ConfigurationError(
            f"compute.device is {device} and compute.gpus is 0: set compute.gpus to the number of "
            "GPUs of a machine"
        )
    return Machines(
        kind="gpu",
        device=spec.name,
        nodes=nodes,
        ranks=gpus * nodes,
        device_bytes=spec.memory_bytes,
        host_bytes=host_bytes,
    )


def host_bytes(group: ControlGroup | None = None) -> int:
    """Return how much memory this process may use: the machine's, or the limit of its container.

    Args:
        group: The control group of the process; that of this process by default.
    """
    import psutil

    total = psutil.virtual_memory().total
    limit = (group or ControlGroup()).memory_limit_bytes()
    return total if limit is None else min(total, limit)


def measured_flops() -> float:
    """Measure the rate of a float32 matrix product on this machine's cores: the best of three.

    In operations per second; it takes about 0.1 s.
    """
    matrix = np.ones((_MATRIX, _MATRIX), dtype=np.float32)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        np.matmul(matrix, matrix)
        seconds.append(time.perf_counter() - begin)
    return 2 * _MATRIX**3 / min(seconds)
