"""The store that the environment names, opened as every command, asset and notebook opens it.

It knows the environment's settings, not what is in the store.
"""

from dolly_assets.core.environment import Environment
from dolly_assets.storage.artifact import ArtifactStore


def open_store(environment: Environment) -> ArtifactStore:
    """Return the artifact store of an environment, with this machine's cache.

    Args:
        environment: What `Environment.read` returns: URL, cache folder and the cache's limit.
    """
    return ArtifactStore(
        environment.store_url,
        environment.cache_dir,
        cache_limit_bytes=environment.cache_limit_bytes,
    )
