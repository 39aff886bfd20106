"""Which GPUs a training sees."""

import os
import subprocess
import sys

import pytest

from dolly_assets.hardware.visible_gpus import visible
from dolly_assets_tests.hardware.devices import DEVICES
from dolly_assets_tests.nvml import scenario


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [
        (None, {0: [], 1: [0, 1], 2: []}),
        ("", {}),
        ("2,0", {0: [], 2: []}),
        ("GPU-eeee", {2: []}),
        ("GPU-eeee-5, 0", {0: [], 2: []}),
        ("1", {1: [0, 1]}),
        ("MIG-dddd-4", {1: [1]}),
        ("MIG-dddd-4,MIG-cccc-3", {1: [0, 1]}),
        ("MIG-GPU-bbbb-2/8/0", {1: [1]}),
        ("0,-1,2", {0: []}),  # CUDA stops at the first entry that names nothing
        ("GPU-none", {}),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    chosen: str | None, seen: dict[int, list[int]]
) -> None:
    shown = visible(DEVICES, chosen)
    assert {
        device.index: [each.index for each in device.mig_instances if each.is_visible]
        for device in shown
    } == seen


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        (scenario("a100"), "8 12.4"),
        (scenario("a100") | {"CUDA_VISIBLE_DEVICES": "3,1"}, "2 12.4"),
        ({"LD_LIBRARY_PATH": ""}, "0 None"),
    ],
    ids=["eight", "two of them", "no driver"],
)
@pytest.mark.slow
def test_the_driver_is_asked_for_gpus_and_its_cuda(gpus: dict[str, str], said: str) -> None:
    code = (
        "from dolly_assets.hardware.visible_gpus import driver_cuda_version, visible_devices\n"
        "print(len(visible_devices()), driver_cuda_version())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **gpus},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == said
