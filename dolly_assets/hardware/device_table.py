"""What vendors publish about their accelerators: peak arithmetic, memory, power.

The figures, with sources, are in device_table.yaml; this module finds them by the names that NVML
and users give a device. Knows nothing of the devices of this machine.
"""

import functools
import re
from importlib import resources
from typing import Literal

from pydantic import Field, TypeAdapter

from dolly_assets.core.base import Config

Precision = Literal["fp32", "tf32", "fp16", "bf16"]

_VENDOR_WORDS = re.compile(r"\b(nvidia|tesla|geforce)\b")


class DeviceSpec(Config):
    """One kind of accelerator, as its data sheet describes it."""

    names: tuple[str, ...] = Field(
        min_length=1, description="NVML's name without vendor and brand, then other names."
    )
    memory_mib: int = Field(gt=0, description="Device memory, as the driver reports it.")
    tdp_watts: float = Field(gt=0, description="The highest default power limit.")
    teraflops: dict[Precision, float] = Field(
        description="Dense peak by precision; without the precisions that are not accelerated."
    )

    @property
    def name(self) -> str:
        """Such as `A100-SXM4-80GB`."""
        return self.names[0]

    @property
    def memory_bytes(self) -> int:
        """Device memory, as the driver reports it."""
        return self.memory_mib * 2**20

    def peak_flops(self, precision: Precision) -> float | None:
        """Return the peak in floating-point operations per second.

        A multiplication and an addition are two operations.
        """
        return self.teraflops[precision] * 1e12 if precision in self.teraflops else None


def device_spec(name: str) -> DeviceSpec | None:
    """Return the data sheet of a device, by NVML's name or a common shorter one.

    None if it is not in the table, as a MIG slice, which is only a share of a device.
    """
    return _by_name().get(_plain(name))


def peak_flops(name: str, precision: Precision) -> float | None:
    """Return a device's peak in operations per second; None if it is not in the table."""
    spec = device_spec(name)
    return spec.peak_flops(precision) if spec else None


@functools.cache
def device_table() -> tuple[DeviceSpec, ...]:
    """Return all known devices."""
    import yaml

    text = (
        resources.files("dolly_assets.hardware")
        .joinpath("device_table.yaml")
        .read_text(encoding="utf-8")
    )
    return TypeAdapter(tuple[DeviceSpec, ...]).validate_python(yaml.safe_load(text))


@functools.cache
def _by_name() -> dict[str, DeviceSpec]:
    return {_plain(name): spec for spec in device_table() for name in spec.names}


def _plain(name: str) -> str:
    """Return one spelling for `NVIDIA A100-SXM4-80GB`, `A100-SXM4-80GB` and `a100 sxm4 80gb`."""
    return " ".join(_VENDOR_WORDS.sub(" ", name.lower()).replace("-", " ").split())
