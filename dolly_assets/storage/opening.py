"""The store that the environment names, opened as every command, asset and notebook opens it.

It knows the environment's settings, not what is in the store.
"""

from dolly_assets.core.environment import Environment
from dolly_assets.core.home import prepare_home
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.object_store import ObjectStore


def open_store(environment: Environment) -> ArtifactStore:
    """Return the artifact store of an environment, with this machine's cache.

    Args:
        environment: What `Environment.read` returns: URL, cache folder and the cache's limit.
    """
    prepare_home(environment)
    return ArtifactStore(
        environment.store_url,
        environment.cache_dir,
        cache_limit_bytes=environment.cache_limit_bytes,
    )


def open_objects(environment: Environment) -> ObjectStore:
    """Return the objects of the same store: live reports, and the catalogue of datasets."""
    prepare_home(environment)
    return ObjectStore(environment.store_url)
