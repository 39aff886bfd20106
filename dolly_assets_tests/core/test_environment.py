"""Settings from environment variables."""

from pathlib import Path

import pytest

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ConfigurationError


def test_the_cache_is_limited_only_where_the_variable_says_so(tmp_path: Path) -> None:
    home = {"DOLLY_HOME": str(tmp_path)}
    assert Environment.read(home).cache_limit_bytes is None
    assert Environment.read({**home, "DOLLY_CACHE_GB": ""}).cache_limit_bytes is None
    assert Environment.read({**home, "DOLLY_CACHE_GB": "0.5"}).cache_limit_bytes == 500_000_000
    assert Environment.read({**home, "DOLLY_CACHE_GB": "0"}).cache_limit_bytes == 0


@pytest.mark.parametrize("wrong", ["many", "-1", "nan", "inf", "20 GB"])
def test_a_limit_of_the_cache_that_is_not_a_number_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=f"DOLLY_CACHE_GB={wrong}: expected a number"):
        Environment.read({"DOLLY_HOME": str(tmp_path), "DOLLY_CACHE_GB": wrong})
