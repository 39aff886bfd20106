"""What the page works with: the models' server, the store, and where votes go.

Streamlit runs the page anew for every click, and passes nothing to it. So the process that serves
it keeps this here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dolly_assets.core.errors import ConfigurationError

if TYPE_CHECKING:
    from dolly_assets.datasets.preferences.votes import Votes
    from dolly_assets.playground.client import Models
    from dolly_assets.storage.artifact import ArtifactStore


@dataclass(frozen=True)
class Setup:
    """What the page works with."""

    models: "Models"
    store: "ArtifactStore"
    votes: "Votes"


_used: list[Setup] = []


def use(setup: Setup) -> None:
    """Let the pages of this process work with a setup."""
    _used[:] = [setup]


def current() -> Setup:
    """Return what the page works with.

    Raises:
        ConfigurationError: The page was not started by `dolly playground`.
    """
    if not _used:
        raise ConfigurationError("this page is a part of a server: start it with dolly playground")
    return _used[0]
