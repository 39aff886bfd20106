"""The device table: found by every name that a driver uses, consistent in itself."""

import pytest

from dolly_assets.hardware.device_table import DeviceSpec, device_spec, device_table, peak_flops


@pytest.mark.parametrize(
    ("reported", "memory_gib"),
    [
        ("Tesla V100-SXM2-32GB", 32),
        ("NVIDIA A100-SXM4-80GB", 80),
        ("A100-SXM4-40GB", 40),
        ("NVIDIA A100 80GB PCIe", 80),
        ("NVIDIA A10G", 24),
        ("NVIDIA H100 80GB HBM3", 80),
        ("NVIDIA H100 PCIe", 80),
        ("NVIDIA H200", 141),
        ("NVIDIA GeForce RTX 4090", 24),
        ("Tesla T4", 16),
    ],
)
def test_what_drivers_report_is_found(reported: str, memory_gib: int) -> None:
    spec = device_spec(reported)
    assert spec
    assert 0.9 * memory_gib < spec.memory_bytes / 2**30 <= memory_gib
    assert peak_flops(reported, "fp16") == spec.peak_flops("fp16")


@pytest.mark.parametrize(
    "name", ["", "NVIDIA", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "A100-SXM4-8", "Radeon VII"]
)
def test_what_is_not_known_is_not_guessed(name: str) -> None:
    assert device_spec(name) is None
    assert peak_flops(name, "bf16") is None


def test_volta_has_no_bf16() -> None:
    assert peak_flops("Tesla V100-SXM2-32GB", "bf16") is None


def test_no_two_devices_share_a_name() -> None:
    for spec in device_table():
        assert all(device_spec(name) is spec for name in spec.names)


@pytest.mark.parametrize("spec", device_table(), ids=lambda spec: spec.name)
def test_narrower_numbers_are_not_slower(spec: DeviceSpec) -> None:
    """A figure with sparsity or in another unit would break the ratios of all tensor cores."""
    peaks = spec.teraflops
    assert peaks["fp32"] < peaks["fp16"] <= 32 * peaks["fp32"]
    if "tf32" in peaks:
        assert peaks["fp16"] == pytest.approx(2 * peaks["tf32"], rel=0.02)
        assert peaks["bf16"] == peaks["fp16"]
