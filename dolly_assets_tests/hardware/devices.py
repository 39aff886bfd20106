"""The devices that tests of what a training sees look at: three GPUs, one of them in parts."""

from dolly_assets.hardware.visible_gpus import Device, MigInstance

DEVICES = [
    Device(0, uuid="GPU-aaaa-1"),
    Device(
        1,
        uuid="GPU-bbbb-2",
        mig_mode=True,
        mig_instances=(
            MigInstance(0, uuid="MIG-cccc-3", gpu_instance=7, compute_instance=0),
            MigInstance(1, uuid="MIG-dddd-4", gpu_instance=8, compute_instance=0),
        ),
    ),
    Device(2, uuid="GPU-eeee-5"),
]
