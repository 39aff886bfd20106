"""The folders of a published checkpoint: whole weights, or a base model and an adapter."""

from pathlib import Path
from typing import NamedTuple

from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.inputs import required_digest
from dolly_assets.registry.kinds import BASE_MODEL
from dolly_assets.storage.artifact import Artifact, ArtifactStore


class ModelFolders(NamedTuple):
    """What `generation.model.load` accepts."""

    weights: Path
    adapter: Path | None


def fetch(store: ArtifactStore, checkpoint: Artifact) -> ModelFolders:
    """Fetch the folders of a checkpoint to this machine.

    An adapter's base model is the one that it was trained on, by its digest.

    Raises:
        ArtifactError: The store lacks the weights or the base model.
    """
    if any(entry.path.startswith("weights/") for entry in checkpoint.manifest.files):
        return ModelFolders(checkpoint.fetch("weights"), None)
    digest = required_digest(checkpoint, BASE_MODEL)
    family = ArtifactAddress.parse(checkpoint.name).family
    base_model = store.get(BASE_MODEL.address(family).name, digest)
    return ModelFolders(base_model.fetch("weights"), checkpoint.fetch("adapter"))
