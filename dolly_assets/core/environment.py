"""The settings of a process, read from environment variables and validated once.

`VARIABLES` describes each variable, as docs/settings.md does. Variables that a launcher sets for
its workers are listed in `WORKER_VARIABLES`; they are read by the workers themselves.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.urls import PLAYGROUND_URL, REPORTS_URL, check_no_password

PROJECT = Path(__file__).parents[2]


class Variable(NamedTuple):
    """An environment variable that users set."""

    name: str
    meaning: str
    default: str


VARIABLES = (
    Variable(
        "DOLLY_HOME",
        "everything kept on this machine: store, cache, scratch space, Dagster instance",
        "`.dolly/` in the project",
    ),
    Variable(
        "DOLLY_STORE",
        "URL of the object store: a path, `s3://bucket/prefix`, `gs://…`, `az://…`",
        "`store` in `DOLLY_HOME`",
    ),
    Variable(
        "DOLLY_CACHE_GB",
        "limit of the cache of artifacts in `DOLLY_HOME`, in 10⁹ bytes: what no process uses is "
        "deleted, least recently used first",
        "none, the cache grows",
    ),
    Variable("DOLLY_DEFS", "a folder with more model families", "none"),
    Variable(
        "DOLLY_KUBERNETES",
        "a YAML file; workers run as Jobs of the cluster it describes, see Kubernetes",
        "none: workers run here",
    ),
    Variable(
        "DOLLY_PRICES", "a YAML file of GPU prices that overrides the bundled examples", "none"
    ),
    Variable("DOLLY_INBOX", "where new datasets arrive, see Automation", "none"),
    Variable(
        "DOLLY_AUTOMATION",
        "`on` starts sensors and schedules without switching them on in the UI",
        "`off`",
    ),
    Variable("DOLLY_ALERTS", "URLs that alerts are posted to, separated by spaces", "none"),
    Variable(
        "DOLLY_REPORTS_URL",
        "the address at which browsers reach `dolly reports`, for links in the UI",
        f"`{REPORTS_URL}`",
    ),
    Variable(
        "DOLLY_SERVE_TOKEN",
        "the token that clients of `dolly serve` send, see Serving",
        "none: only programs on this machine are answered",
    ),
    Variable(
        "DOLLY_PLAYGROUND_URL",
        "the address at which browsers reach `dolly playground`, for links in the UI",
        f"`{PLAYGROUND_URL}`",
    ),
    Variable(
        "DOLLY_IMAGE",
        "the container image, recorded in profiles",
        "the worker's image in Jobs, else none",
    ),
)

WORKER_VARIABLES = frozenset(
    {
        "DOLLY_CPUS",
        "DOLLY_DEVICE",
        "DOLLY_END_WITH_STDIN",
        "DOLLY_MEET",
        "DOLLY_MEET_SECONDS",
        "DOLLY_MESSAGES",
        "DOLLY_NODES",
        "DOLLY_POD",
        "DOLLY_RANKS",
        "DOLLY_SCRATCH",
        "DOLLY_SPEC",
    }
)

# URLs that become settings and links in Dagster, which shows them and keeps them with every run.
SHOWN_URLS = ("DOLLY_STORE", "DOLLY_INBOX", "DOLLY_REPORTS_URL", "DOLLY_PLAYGROUND_URL")


class Environment(Config):
    """The settings of this process."""

    home: Path = Field(description="Folder of everything that is kept on this machine.")
    store_url: str = Field(description="URL of the object store.")
    cache_limit_bytes: int | None = Field(
        default=None, description="Limit of this machine's cache of artifacts, in bytes."
    )
    more_defs: Path | None = Field(default=None, description="Folder with more model families.")
    kubernetes_file: Path | None = Field(
        default=None, description="YAML file that describes the cluster in which workers run."
    )
    prices_file: Path | None = Field(default=None, description="YAML file of GPU prices.")
    inbox_url: str | None = Field(
        default=None, description="Folder or URL in which new datasets arrive."
    )
    automation: Literal["on", "off"] = Field(
        default="off", description="Whether sensors and schedules start switched on."
    )
    reports_url: str | None = Field(
        default=None,
        description=f"Address at which browsers reach the report server; {REPORTS_URL} if unset.",
    )
    playground_url: str | None = Field(
        default=None,
        description=f"Address at which browsers reach the playground; {PLAYGROUND_URL} if unset.",
    )
    alerts: tuple[SecretStr, ...] = Field(
        default=(), description="URLs that alerts are posted to; who knows one can post to it."
    )

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> Self:
        """Read the settings from environment variables; an empty variable counts as unset.

        Raises:
            ConfigurationError: `DOLLY_DEFS` is not a folder, `DOLLY_CACHE_GB` is not a number,
                `DOLLY_AUTOMATION` is neither on nor off, an address is none,
                or a URL that Dagster would show holds a password.
        """
        home = _path(variables.get("DOLLY_HOME")) or _default_home().absolute()
        more_defs = _path(variables.get("DOLLY_DEFS"))
        if more_defs and not more_defs.is_dir():
            raise ConfigurationError(
                f"DOLLY_DEFS={more_defs} is not a folder: expected one with a subfolder per family"
            )
        for name in SHOWN_URLS:
            check_no_password(variables.get(name, ""), name)
        automation = variables.get("DOLLY_AUTOMATION") or "off"
        if automation not in ("on", "off"):
            raise ConfigurationError(f"DOLLY_AUTOMATION={automation}: expected on or off")
        return cls(
            home=home,
            store_url=variables.get("DOLLY_STORE") or str(home / "store"),
            cache_limit_bytes=_cache_limit_bytes(variables.get("DOLLY_CACHE_GB")),
            more_defs=more_defs,
            kubernetes_file=_path(variables.get("DOLLY_KUBERNETES")),
            prices_file=_path(variables.get("DOLLY_PRICES")),
            inbox_url=variables.get("DOLLY_INBOX") or None,
            automation=automation,
            reports_url=_address("DOLLY_REPORTS_URL", variables, REPORTS_URL),
            playground_url=_address("DOLLY_PLAYGROUND_URL", variables, PLAYGROUND_URL),
            alerts=tuple(map(SecretStr, variables.get("DOLLY_ALERTS", "").split())),
        )

    @property
    def cache_dir(self) -> Path:
        """The folder of verified copies of artifacts."""
        return self.home / "cache"

    @property
    def scratch_dir(self) -> Path:
        """The folder of the working folders of runs, which successful workers delete."""
        return self.home / "scratch"

    @property
    def dagster_home(self) -> Path:
        """The folder of the Dagster instance."""
        return self.home / "dagster"


def _path(value: str | None) -> Path | None:
    # Links stay: a mounted ConfigMap is a link to a folder that every change replaces.
    return Path(value).expanduser().absolute() if value else None


def _address(name: str, variables: Mapping[str, str], example: str) -> str | None:
    """Return the address of a variable without a last slash; None if none is set."""
    url = variables.get(name)
    if not url:
        return None
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # such as a bracket without its counterpart
        is_address = False
    if not is_address:
        raise ConfigurationError(
            f"{name}={url}: expected the address that browsers open, such as {example} or "
            f"https://dagster.example.com/{name.split('_')[1].lower()}"
        )
    return url.rstrip("/")


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
