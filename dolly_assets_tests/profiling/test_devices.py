"""The file that describes the devices."""

from pathlib import Path

from dolly_assets.profiling.record.devices import VERSIONS_FILE, Hardware, Link
from dolly_assets_tests.hardware.devices import DEVICES


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
