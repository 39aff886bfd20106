"""Prices: the bundled examples, and a file of one's own over them."""

from pathlib import Path

import pytest

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.hardware.device_table import device_spec
from dolly_assets.planning.prices import Prices


def test_every_bundled_price_is_of_a_device_in_the_table() -> None:
    assert all(device_spec(name) for name in Prices.read().gpu_hour_usd)


def test_a_device_is_priced_under_each_of_its_names() -> None:
    prices = Prices.read()
    assert prices.of_gpu_hour("NVIDIA A100-SXM4-80GB") == prices.of_gpu_hour("A100") == 2.21
    assert prices.of_gpu_hour("Radeon VII") is None


def test_a_file_of_ones_own_changes_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("as_of: 2026-01-31\ngpu_hour_usd: {A100-SXM4-80GB: 1.5, Trainium: 3}\n")
    prices = Prices.read(file)
    assert prices.of_gpu_hour("A100-80GB") == 1.5
    assert prices.of_gpu_hour("Trainium") == 3
    assert prices.of_gpu_hour("Tesla T4") == Prices.read().of_gpu_hour("T4")
    assert prices.carbon_g_per_kwh == Prices.read().carbon_g_per_kwh


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gpu_hour_usd: {T4: cheap}", "expected as_of"),
        ("- T4", "expected keys with values, found a list"),
        ("price: 3", "expected as_of"),
        ("gpu_hour_usd: [T4]", "expected as_of"),
        ("{", "not YAML: line 1, column 2"),
        ("as_of: 2026-99-99", "line 1, column 8: a value cannot be read: month must be in"),
    ],
)
def test_a_file_that_is_no_price_list_is_refused_by_name(
    tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"prices\.yaml: .*{why}"):
        Prices.read(file)
