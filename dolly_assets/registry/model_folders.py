"""The folders of a published checkpoint: whole weights, or a base model and an adapter."""

from pathlib import Path
from typing import NamedTuple

from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.inputs import required_digest
from dolly_assets.registry.kinds import BASE_MODEL
from dolly_assets.storage.artifact import Artifact, ArtifactStore


class ModelFolders(NamedTuple):
    """What `generation.model.load` accepts, and the name of the template that prompts it."""

    weights: Path
    adapter: Path | None
    template: str | None


def weights_bytes(store: ArtifactStore, checkpoint: Artifact) -> int:
    """Return the size of the weights that a checkpoint's model has in memory, adapter included.

    Raises:
        ArtifactError: The store lacks the base model of an adapter.
    """
    model = checkpoint
    if not has_weights(checkpoint):
        model = base_model_of(store, checkpoint)
    return sum(
        entry.size_bytes
        for artifact, folder in ((model, "weights/"), (checkpoint, "adapter/"))
        for entry in artifact.manifest.files
        if entry.path.startswith(folder) and entry.path.endswith(".safetensors")
    )


def fetch(store: ArtifactStore, checkpoint: Artifact) -> ModelFolders:
    """Fetch the folders of a checkpoint to this machine.

    An adapter's base model is the one that it was trained on, by its digest.

    Raises:
        ArtifactError: The store lacks the weights or the base model.
    """
    stated = checkpoint.manifest.attributes.get("template")
    template = stated if isinstance(stated, str) else None
    if has_weights(checkpoint):
        return ModelFolders(checkpoint.fetch("weights"), None, template)
    base_model = base_model_of(store, checkpoint)
    return ModelFolders(base_model.fetch("weights"), checkpoint.fetch("adapter"), template)


def has_weights(checkpoint: Artifact) -> bool:
    """Return whether a checkpoint is a whole model, and not an adapter."""
    return any(entry.path.startswith("weights/") for entry in checkpoint.manifest.files)


def base_model_of(store: ArtifactStore, checkpoint: Artifact) -> Artifact:
    """Return the base model that an adapter was trained on, by its digest.

    Raises:
        ArtifactError: The store has it no more.
    """
    digest = required_digest(checkpoint, BASE_MODEL)
    family = ArtifactAddress.parse(checkpoint.name).family
    return store.get(BASE_MODEL.address(family).name, digest)
