"""The folder of this machine's Dagster instance, with its settings.

Knows the settings that a new instance begins with; a `dagster.yaml` that exists is the user's.
"""

from pathlib import Path

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.home import prepare_home

DAGSTER_YAML = """\
telemetry:
  enabled: false
nux:  # no dialog for new users
  enabled: false
freshness:
  enabled: true
concurrency:
  pools:
    granularity: op
    default_limit: 1  # one training or scoring at a time on this machine
run_monitoring:
  enabled: true
  start_timeout_seconds: 900
  cancel_timeout_seconds: 2100  # a cancelled run waits until its training has saved its state
  poll_interval_seconds: 30
  # A run that was killed keeps its place in a pool until it is freed, and the next run would wait
  # for ever.
  free_slots_after_run_end_seconds: 30
"""


def prepare_dagster_home(environment: Environment) -> Path:
    """Return the folder of the Dagster instance, and create it if it is missing."""
    home = environment.dagster_home
    try:
        prepare_home(environment)
        home.mkdir(parents=True, exist_ok=True)  # fails with the reason, if that has failed
        if not (home / "dagster.yaml").exists():
            (home / "dagster.yaml").write_text(DAGSTER_YAML)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {home}: {error.strerror}; set DOLLY_HOME"
        ) from error
    return home
