"""What the store holds of an asset, by address: the newest, all, or the one that must be there.

It knows addresses and kinds, and neither Dagster nor how anything is computed.
"""

from collections.abc import Iterable

from dolly_assets.core.errors import ArtifactError
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import KINDS, MODEL_CHECKPOINT, AssetKind
from dolly_assets.storage.artifact import Artifact, ArtifactStore


def latest(store: ArtifactStore, address: ArtifactAddress) -> Artifact | None:
    """Return the newest artifact at an address, if there is one."""
    return store.latest(address.name)


def required(store: ArtifactStore, address: ArtifactAddress) -> Artifact:
    """Return the newest artifact at an address.

    Raises:
        ArtifactError: There is none.
    """
    artifact = latest(store, address)
    if artifact is None:
        raise ArtifactError(f"{address} is not in the store {store.url}: materialize it first")
    return artifact


def required_checkpoints(
    store: ArtifactStore, family: ModelFamily, dataset: str, epochs: Iterable[int]
) -> dict[int, Artifact]:
    """Return the newest checkpoint of each epoch.

    Raises:
        ArtifactError: One is missing.
    """
    return {
        epoch: required(store, MODEL_CHECKPOINT.address(family.name, dataset, epoch))
        for epoch in epochs
    }


def names(store: ArtifactStore, kind: AssetKind, family: str) -> list[str]:
    """Return the names of all artifacts of a kind that a family has."""
    return store.names("/".join(kind.key(family)))


def history(store: ArtifactStore, address: ArtifactAddress) -> list[Artifact]:
    """Return all artifacts at an address, newest first, also those under the kind's former names."""
    kind = KINDS.get(address.asset)
    found = store.history(address.name)
    for former in kind.former_names if kind else ():
        found += store.history(
            ArtifactAddress(address.family, former, address.dataset, address.epoch).name
        )
    return sorted(found, key=lambda item: item.manifest.created_at, reverse=True)
