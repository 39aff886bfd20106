"""NVML and psutil readings. The real pynvml is loaded; where a test needs a GPU, its calls to the driver stand in."""

import multiprocessing
import os
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from dolly_assets.profiling.devices import (
    GPU_FIELDS,
    Device,
    Hardware,
    ProcessTree,
    find_devices,
    find_hardware,
    read_device,
    read_host,
)


def _not_supported(*arguments: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A driver with two GPUs; setattr fails for a function that the real pynvml does not have."""
    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: "NVIDIA A100",
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}abc",
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=90 + handle, memory=40),
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=3 * 2**30, total=40 * 2**30),
        "nvmlDeviceGetPowerUsage": lambda handle: 251_500,
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 7_000_500,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 61,
        "nvmlDeviceGetClockInfo": lambda handle, clock: 1410,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def test_without_a_driver_there_are_no_devices_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_library)
    assert find_devices() == ([], "NVML Shared Library Not Found")


def test_readings_are_in_the_units_of_their_names(two_gpus: pytest.MonkeyPatch) -> None:
    devices, reason = find_devices()
    assert reason == ""
    assert devices[1] == Device(1, "NVIDIA A100", "GPU-1abc", 40 * 2**30)
    assert read_device(devices[1]) == {
        "gpu_utilization_percent": 91,
        "memory_utilization_percent": 40,
        "memory_used_bytes": 3 * 2**30,
        "power_watts": 251.5,
        "energy_joules": 7000.5,
        "temperature_celsius": 61,
        "sm_clock_mhz": 1410,
    }
    assert set(read_device(devices[1])) == set(GPU_FIELDS)


def test_a_field_the_driver_lacks_is_left_out_and_listed(two_gpus: pytest.MonkeyPatch) -> None:
    two_gpus.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", _not_supported)
    two_gpus.setattr(pynvml, "nvmlDeviceGetName", _not_supported)
    device = find_devices()[0][0]
    assert device.missing == ("energy_joules",)
    assert device.name == "NVIDIA GPU"
    assert "energy_joules" not in read_device(device)
    assert "power_watts" in read_device(device)


def test_a_gpu_lost_while_sampling_reads_nothing(two_gpus: pytest.MonkeyPatch) -> None:
    device = find_devices()[0][0]
    two_gpus.setattr(pynvml, "nvmlDeviceGetHandleByIndex", _not_supported)
    assert read_device(device) == {}


@pytest.mark.parametrize(("chosen", "indices"), [("1", [1]), ("0,1", [0, 1]), ("GPU-0abc", [0]), ("", [])])
def test_only_visible_devices_are_profiled(two_gpus: pytest.MonkeyPatch, chosen: str, indices: list[int]) -> None:
    two_gpus.setenv("CUDA_VISIBLE_DEVICES", chosen)
    devices, reason = find_devices()
    assert [device.index for device in devices] == indices
    assert bool(reason) == (not indices)


def test_hardware_survives_its_file(two_gpus: pytest.MonkeyPatch, tmp_path: Any) -> None:
    two_gpus.setattr(pynvml, "nvmlDeviceGetPowerUsage", _not_supported)
    hardware = find_hardware()
    hardware.write(tmp_path / "devices.json")
    assert Hardware.load(tmp_path / "devices.json") == hardware
    assert "did not start" in Hardware.load(tmp_path / "nothing.json").no_device_reason


def test_the_host_gives_cpu_and_memory() -> None:
    values = read_host()
    assert 0 <= values["cpu_percent"] <= 100
    assert values["memory_used_bytes"] > 0


def _burn_half_a_second() -> None:
    while sum(os.times()[:2]) < 0.5:
        sum(range(10_000))


def test_cpu_time_of_a_child_that_came_and_went_is_counted_once() -> None:
    """What the parent reaped stays in the tree's sum, though the child was never seen alive."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        watched = pool.apply(os.getpid)
        tree = ProcessTree(watched)
        before = tree.read()
        pool.apply(_run_child)
        after = tree.read()
    assert 0.4 <= after["cpu_seconds"] - before["cpu_seconds"] <= 2.5


def _run_child() -> None:
    pid = os.fork()
    if pid == 0:
        _burn_half_a_second()
        os._exit(0)
    os.waitpid(pid, 0)


def test_a_tree_whose_root_never_was_is_not_alive() -> None:
    tree = ProcessTree(2**22 + 1)
    assert not tree.is_alive()
    assert tree.read() == {}
