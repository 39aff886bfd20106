"""The hardware that a training runs on: what vendors publish, what this machine has, its limits.

It describes and never measures over time; it knows nothing of trainings, profiles or the store.

- `device_table.py`: peak arithmetic, memory and power of known accelerators (`device_table.yaml`);
- `visible_gpus.py`: the GPUs that a process here may use, and the CUDA version of their driver;
- `description.py`: what the driver reports of each GPU, through `nvml.py`;
- `nvml.py`: the single access to NVML, which turns its errors into values;
- `control_group.py`: the CPU and memory limits of this process's container;
- `machine.py`: the machines that a training is planned for.
"""

from dolly_assets.hardware.control_group import ControlGroup
from dolly_assets.hardware.device_table import (
    DeviceSpec,
    Precision,
    device_spec,
    device_table,
    peak_flops,
)
from dolly_assets.hardware.visible_gpus import Device, driver_cuda_version, visible_devices

__all__ = [
    "ControlGroup",
    "Device",
    "DeviceSpec",
    "Precision",
    "device_spec",
    "device_table",
    "driver_cuda_version",
    "peak_flops",
    "visible_devices",
]
