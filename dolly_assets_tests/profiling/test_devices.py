"""The file that describes the devices."""

from pathlib import Path

from dolly_assets.hardware.visible_gpus import Device, MigInstance
from dolly_assets.profiling.record.devices import VERSIONS_FILE, Hardware, Link

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


def test_hardware_survives_its_file_and_takes_in_what_the_training_wrote(tmp_path: Path) -> None:
    hardware = Hardware(
        devices=tuple(DEVICES),
        links=(Link(0, 1, "NODE", 12, "ok"),),
        container_cpu_limit=3.5,
        versions={"torch": "2", "deepspeed": "1"},
    )
    hardware.write(tmp_path / "devices.json")
    assert Hardware.load(tmp_path / "devices.json") == hardware
    (tmp_path / VERSIONS_FILE).write_text('{"torch": "2+cu128", "nccl": "2.27.3"}')
    versions = Hardware.load(tmp_path / "devices.json").versions
    assert versions == {"torch": "2+cu128", "deepspeed": "1", "nccl": "2.27.3"}
    assert "did not start" in Hardware.load(tmp_path / "nothing.json").no_device_reason
