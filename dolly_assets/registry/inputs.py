"""What an artifact was made from, by the full names of its inputs.

Manifests of version 0.1.0 name most inputs by their asset alone (`base_model`); this is the one
place that knows which artifact of the store such a name stands for.
"""

from dolly_assets.core.errors import ArtifactError
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import (
    CHAMPION_EVALUATION,
    CHAMPION_MODEL,
    KINDS,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    TRAINING_STATE,
    AssetKind,
)
from dolly_assets.storage.artifact import Artifact


def inputs_of(artifact: Artifact) -> dict[str, str]:
    """Return the inputs of an artifact: the name of each, with its digest."""
    manifest = artifact.manifest
    return {_full_name(artifact, name): digest for name, digest in manifest.inputs.items()}


def input_digest(artifact: Artifact, kind: AssetKind) -> str | None:
    """Return the digest of the artifact's input of a kind, if it has one."""
    for name, digest in inputs_of(artifact).items():
        if kind_in(name) is kind:
            return digest
    return None


def required_digest(artifact: Artifact, kind: AssetKind) -> str:
    """Return the digest of the artifact's input of a kind.

    Raises:
        ArtifactError: It has none.
    """
    digest = input_digest(artifact, kind)
    if digest is None:
        raise ArtifactError(
            f"{artifact.name}: its manifest does not state the {kind.name} that it was made from"
        )
    return digest


def is_made_from(artifact: Artifact, other: Artifact) -> bool:
    """Whether another artifact is among the inputs of one."""
    return inputs_of(artifact).get(other.name) == other.digest


def as_inputs(*artifacts: Artifact) -> dict[str, str]:
    """Return artifacts as the inputs of another's manifest: the name of each, with its digest."""
    return {artifact.name: artifact.digest for artifact in artifacts}


def kind_in(name: str) -> AssetKind | None:
    """Return the kind that an artifact's name stands for; None for a name that is not ours."""
    try:
        return KINDS.get(ArtifactAddress.parse(name).asset)
    except ArtifactError:
        return None


def _full_name(artifact: Artifact, name: str) -> str:
    """Return the name of an input that a manifest may know by its asset alone."""
    if "/" in name or name not in KINDS:
        return name
    at, kind = ArtifactAddress.parse(artifact.name), KINDS[name]
    if kind is RAW_DATASET:
        return kind.address(dataset=at.dataset).name
    if kind is MODEL_CHECKPOINT and at.asset == CHAMPION_EVALUATION.name:
        return CHAMPION_MODEL.address(at.family, at.dataset).name
    epoch = at.epoch
    if kind is MODEL_CHECKPOINT and at.asset in (MODEL_CHECKPOINT.name, TRAINING_STATE.name):
        epoch = _epoch_of(artifact) - 1  # a training continues from the epoch before
    return kind.address(at.family, at.dataset, epoch).name


def _epoch_of(artifact: Artifact) -> int:
    return int(str(artifact.manifest.attributes["epoch"]))
