"""Stages of the models that a family has for a dataset: candidate, staging and production.

The newest artifact of a stage's kind is the model in it. It refers to the weights of the
checkpoint, so garbage collection keeps them as long as it; its older publications are the stage's
history. Production is `champion_model`. How a stage changes is the business of `promotion.py`.
"""

from collections.abc import Mapping
from typing import Literal

from dolly_assets.registry.attributes import ChampionAttributes, CheckpointAttributes
from dolly_assets.registry.inputs import inputs_of
from dolly_assets.registry.kinds import (
    CANDIDATE_MODEL,
    CHAMPION_MODEL,
    EVALUATION,
    MODEL_CHECKPOINT,
    STAGING_MODEL,
    AssetKind,
)
from dolly_assets.registry.queries import history, latest
from dolly_assets.storage.artifact import Artifact, ArtifactStore

Stage = Literal["candidate", "staging", "production"]
STAGES: Mapping[Stage, AssetKind] = {
    "candidate": CANDIDATE_MODEL,
    "staging": STAGING_MODEL,
    "production": CHAMPION_MODEL,
}
"""The kinds of the models in each stage, in the order in which a model passes them."""


def model_in(store: ArtifactStore, family: str, dataset: str, stage: Stage) -> Artifact | None:
    """Return the model in a stage, if there is one."""
    return latest(store, STAGES[stage].address(family, dataset))


def changes(store: ArtifactStore, family: str, dataset: str, stage: Stage) -> list[Artifact]:
    """Return the models that came into a stage, newest first.

    A champion that was only defended is left out.
    """
    found = history(store, STAGES[stage].address(family, dataset))
    before = [*map(checkpoint_of, found), None][1:]
    return [each for each, older in zip(found, before, strict=True) if checkpoint_of(each) != older]


def checkpoint_of(model: Artifact) -> str:
    """Return the digest of the checkpoint that a model is, or was before it came into a stage."""
    if model.manifest.kind == MODEL_CHECKPOINT.name:
        return model.digest
    return ChampionAttributes.of(model).checkpoint


def name_of(model: Artifact) -> str:
    """Return what sentences call a checkpoint, or a model in a stage."""
    epoch = CheckpointAttributes.of(model).epoch
    return f"epoch {epoch}" if epoch else "the base model"


def withdrawn_from(current: Artifact | None) -> list[str]:
    """Return the digests of the checkpoints that were rolled back and not promoted again."""
    return ChampionAttributes.of(current).withdrawn if current else []


def evaluation_of(
    store: ArtifactStore, family: str, dataset: str, model: Artifact
) -> Artifact | None:
    """Return the newest scores of a checkpoint, or of the one that a model in a stage was."""
    epoch = CheckpointAttributes.of(model).epoch
    checkpoint = MODEL_CHECKPOINT.address(family, dataset, epoch).name
    for found in history(store, EVALUATION.address(family, dataset, epoch)):
        if inputs_of(found).get(checkpoint) == checkpoint_of(model):
            return found
    return None
