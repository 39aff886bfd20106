"""The code location that `dagster` and `dg` load: the definitions of this process's environment."""

import dagster as dg

from dolly_assets.components.code_location import build
from dolly_assets.core.environment import Environment


@dg.definitions
def definitions() -> dg.Definitions:
    """Return all definitions for the environment of this process."""
    return build(Environment.read())
