"""The store and the session of this process's environment."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dolly_assets.pipeline.session import Session
    from dolly_assets.storage import ArtifactStore


def open_session() -> "Session":
    """Return a session on this process's environment."""
    from dolly_assets.core.environment import Environment
    from dolly_assets.pipeline.session import Session

    return Session(Environment.read())


def open_store() -> "ArtifactStore":
    """Return the store of this process's environment."""
    from dolly_assets.core.environment import Environment
    from dolly_assets.storage import opening

    return opening.open_store(Environment.read())
