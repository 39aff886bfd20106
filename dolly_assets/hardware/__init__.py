"""The hardware that a training runs on: what vendors publish, what this machine has, its limits.

It describes and never measures over time; it knows nothing of trainings, profiles or the store. Its
modules are imported one by one, since the sampler must start without pydantic.

- `device_table`: peak arithmetic, memory and power of known accelerators (`device_table.yaml`).
- `visible_gpus`: the GPUs that a process here may use, and the CUDA version of their driver.
- `description`: what the driver reports of each GPU.
- `nvml`: the single access to NVML, which turns its errors into values.
- `control_group`: the CPU and memory limits of this process's container.
- `machine`: the machines that a training is planned for.
"""
