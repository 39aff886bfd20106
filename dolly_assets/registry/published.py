"""The folders that a published checkpoint is loaded from: whole weights, or those of its base model and an adapter."""

from pathlib import Path
from typing import NamedTuple

from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import BASE_MODEL
from dolly_assets.storage.artifact import Artifact, ArtifactStore


class ModelFolders(NamedTuple):
    """What `generation.model.load` takes."""

    weights: Path
    adapter: Path | None


def fetch(store: ArtifactStore, checkpoint: Artifact) -> ModelFolders:
    """Brings them to this machine.

    An adapter's base model is the one that it was trained on, by its digest.
    """
    if any(entry.path.startswith("weights/") for entry in checkpoint.manifest.files):
        return ModelFolders(checkpoint.fetch("weights"), None)
    family = ArtifactAddress.parse(checkpoint.name).family
    base_model = store.get(
        BASE_MODEL.address(family).name, checkpoint.manifest.inputs["base_model"]
    )
    return ModelFolders(base_model.fetch("weights"), checkpoint.fetch("adapter"))
