"""Finding what an asset needs in the store, or saying what to materialize first."""

from collections.abc import Iterable, Sequence

from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.names import epoch_key
from dolly_assets.family import ModelFamily
from dolly_assets.storage.artifact import Artifact, ArtifactStore, artifact_name


def required(store: ArtifactStore, key: Sequence[str], *partition: str) -> Artifact:
    """The newest artifact of an asset's partition.

    Raises:
        ArtifactError: There is none.
    """
    artifact = store.latest(artifact_name(key, *partition))
    if artifact is None:
        of = f", partition {'|'.join(partition)}," if partition else ""
        raise ArtifactError(
            f"{'/'.join(key)}{of} is not in the store {store.url}: materialize it first"
        )
    return artifact


def required_checkpoints(
    store: ArtifactStore, family: ModelFamily, dataset: str, epochs: Iterable[int]
) -> dict[int, Artifact]:
    """The newest checkpoint of each epoch; raises ArtifactError if one is missing."""
    key = [family.name, "model_checkpoint"]
    return {epoch: required(store, key, dataset, epoch_key(epoch)) for epoch in epochs}
