"""Which models a store has, by the names under which they are served.

`FAMILY/DATASET/EPOCH` is the newest checkpoint of an epoch, and `FAMILY/DATASET/champion`,
`…/staging` and `…/candidate` the model in a stage. It knows the store, and loads nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from dolly_assets.core.errors import ArtifactError, DollyError
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import CheckpointAttributes
from dolly_assets.registry.kinds import MODEL_CHECKPOINT
from dolly_assets.registry.stages import STAGES, Stage, checkpoint_of
from dolly_assets.serving.errors import ApiError
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.flow import in_parallel

_STAGES: Mapping[str, Stage] = {
    "candidate": "candidate",
    "staging": "staging",
    "champion": "production",
}
"""What is served under which name, and the stage that it is."""
_NAME = re.compile(
    r"([a-z0-9][a-z0-9_]{0,62})/([a-z0-9][a-z0-9_.-]{0,62})/(\d{1,9}|" + "|".join(_STAGES) + ")",
    re.ASCII,
)
FORM = "FAMILY/DATASET/EPOCH, or FAMILY/DATASET/ with champion, staging or candidate"


@dataclass(frozen=True)
class ServedModel:
    """A model that can be asked for.

    Attributes:
        name: What clients call it.
        artifact: The checkpoint, or the model in a stage.
        checkpoint: Digest of the checkpoint, which is the version of the answers.
    """

    name: str
    artifact: Artifact
    checkpoint: str

    @classmethod
    def of(cls, name: str, artifact: Artifact) -> Self:
        """Return what is served as an artifact."""
        return cls(name, artifact, checkpoint_of(artifact))

    def as_json(self) -> dict[str, Any]:
        """Return the entry in the list of models."""
        address = ArtifactAddress.parse(self.artifact.name)
        stage = next((key for key, kind in STAGES.items() if kind.name == address.asset), None)
        return {
            "id": self.name,
            "object": "model",
            "created": int(self.artifact.manifest.created_at.timestamp()),
            "owned_by": address.family,
            "dolly": {
                "artifact": self.artifact.name,
                "digest": self.checkpoint,
                "epoch": CheckpointAttributes.of(self.artifact).epoch,
                "stage": stage,
            },
        }


def find(store: ArtifactStore, name: str) -> ServedModel:
    """Return the newest model of a name.

    Raises:
        ApiError: The name has another form, or the store has no such model.
        ArtifactError: The store fails.
    """
    address = _address(name)
    artifact = store.latest(address.name) if address else None
    if artifact is None:
        expected = f"{name!r} has another form" if address is None else f"no model {name!r}"
        raise ApiError(
            f"{expected}: expected {FORM}, as /v1/models lists them",
            HTTPStatus.NOT_FOUND,
            param="model",
            code="model_not_found",
        )
    return ServedModel.of(name, artifact)


def every(store: ArtifactStore) -> list[ServedModel]:
    """Return all models of a store, by name; those that cannot be read are left out.

    Raises:
        ArtifactError: The store fails.
    """
    now = store.snapshot()
    named = [(name, at) for at in now.names() if (name := _name(at))]
    found = in_parallel(lambda each: _read(now, *each), named, at_once=32)
    return sorted((each for each in found if each), key=lambda each: each.name)


def _read(store: ArtifactStore, name: str, at: str) -> ServedModel | None:
    try:
        artifact = store.latest(at)
        return ServedModel.of(name, artifact) if artifact else None
    except (DollyError, ValueError):
        return None


def _name(artifact_name: str) -> str | None:
    """Return what an artifact is served as; None if it is no model."""
    try:
        address = ArtifactAddress.parse(artifact_name)
    except ArtifactError:
        return None
    if address.asset == MODEL_CHECKPOINT.name and address.epoch is not None:
        return f"{address.family}/{address.dataset}/{address.epoch}"
    for word, stage in _STAGES.items():
        if address.asset == STAGES[stage].name and address.dataset:
            return f"{address.family}/{address.dataset}/{word}"
    return None


def _address(name: str) -> ArtifactAddress | None:
    found = _NAME.fullmatch(name)
    if not found:
        return None
    family, dataset, which = found.groups()
    if which.isdecimal():
        return MODEL_CHECKPOINT.address(family, dataset, int(which))
    return STAGES[_STAGES[which]].address(family, dataset)
