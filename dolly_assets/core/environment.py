"""Where things live and who runs workers: settings from environment variables, validated once.

| variable     | meaning                                                    | default                      |
| ------------ | ---------------------------------------------------------- | ---------------------------- |
| `DOLLY_HOME` | everything this machine keeps: store, cache, Dagster       | `.dolly/` under the project  |
| `DOLLY_STORE`| URL of the object store                                    | the folder `store` in it     |
| `DOLLY_CACHE_GB` | limit of this machine's cache of artifacts, in 10⁹ bytes | none: the cache grows      |
| `DOLLY_DEFS` | a folder with more model families, beside the bundled ones | none                         |
| `DOLLY_KUBERNETES` | a YAML file: workers are Jobs of the cluster that it says | none, workers run here |
| `DOLLY_PRICES`| a YAML file of GPU prices, over the bundled examples      | none                         |
| `DOLLY_INBOX`| a folder or `s3://…` in which new datasets arrive          | none                         |
| `DOLLY_AUTOMATION` | `on`: sensors and schedules run without being switched on | `off`                  |
| `DOLLY_ALERTS` | where alerts go besides the log: URLs, see docs/automation.md | none                     |
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError

PROJECT = Path(__file__).parents[2]


class Environment(Config):
    """The settings of this process."""

    home: Path = Field(description="Everything this machine keeps.")
    store_url: str = Field(description="URL of the object store.")
    cache_limit_bytes: int | None = Field(
        default=None, description="Limit of this machine's cache of artifacts, in bytes."
    )
    more_defs: Path | None = Field(default=None, description="A folder with more model families.")
    kubernetes_file: Path | None = Field(
        default=None, description="The cluster that workers run in."
    )
    prices_file: Path | None = Field(default=None, description="A YAML file of GPU prices.")
    inbox_url: str | None = Field(default=None, description="Where new datasets arrive.")
    automation: Literal["on", "off"] = Field(
        default="off", description="Whether sensors and schedules run at once."
    )
    reports_url: str | None = Field(
        default=None, description="Address at which browsers reach the report server."
    )
    alerts: tuple[str, ...] = Field(default=(), description="URLs that alerts are posted to.")

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> Self:
        """Reads the variables in the table above.

        Raises:
            ConfigurationError: `DOLLY_DEFS` is not a folder, `DOLLY_CACHE_GB` is not a number, or
                `DOLLY_AUTOMATION` is neither on nor off.
        """
        home = Path(variables.get("DOLLY_HOME") or _default_home()).expanduser().resolve()
        more_defs = (
            Path(variables["DOLLY_DEFS"]).expanduser().resolve()
            if variables.get("DOLLY_DEFS")
            else None
        )
        if more_defs and not more_defs.is_dir():
            raise ConfigurationError(
                f"DOLLY_DEFS={more_defs} is not a folder: expected one sub-folder per family"
            )
        kubernetes_file, prices_file = (
            Path(variables[name]).expanduser().resolve() if variables.get(name) else None
            for name in ("DOLLY_KUBERNETES", "DOLLY_PRICES")
        )
        automation = variables.get("DOLLY_AUTOMATION") or "off"
        if automation not in ("on", "off"):
            raise ConfigurationError(f"DOLLY_AUTOMATION={automation}: expected on or off")
        return cls(
            home=home,
            store_url=variables.get("DOLLY_STORE") or str(home / "store"),
            cache_limit_bytes=_cache_limit_bytes(variables.get("DOLLY_CACHE_GB")),
            more_defs=more_defs,
            kubernetes_file=kubernetes_file,
            prices_file=prices_file,
            inbox_url=variables.get("DOLLY_INBOX") or None,
            automation=automation,
            reports_url=variables.get("DOLLY_REPORTS_URL") or None,
            alerts=tuple(variables.get("DOLLY_ALERTS", "").split()),
        )

    @property
    def cache_dir(self) -> Path:
        """Verified copies of artifacts."""
        return self.home / "cache"

    @property
    def scratch_dir(self) -> Path:
        """Working folders of runs; each is removed when its worker ended well."""
        return self.home / "scratch"

    @property
    def dagster_home(self) -> Path:
        """The Dagster instance."""
        return self.home / "dagster"


def _cache_limit_bytes(gigabytes: str | None) -> int | None:
    """Return the limit of the cache in bytes; None if the variable is unset or empty."""
    if not gigabytes:
        return None
    try:
        limit_bytes = int(float(gigabytes) * 10**9)
    except (ValueError, OverflowError):
        limit_bytes = -1
    if limit_bytes < 0:
        raise ConfigurationError(
            f"DOLLY_CACHE_GB={gigabytes}: expected a number of gigabytes, such as 200 or 0.5"
        )
    return limit_bytes


def _default_home() -> Path:
    in_project = (PROJECT / "pyproject.toml").is_file()
    return (PROJECT if in_project else Path.cwd()) / ".dolly"
