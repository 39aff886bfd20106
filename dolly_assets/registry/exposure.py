"""Which models in the store learnt from a record: checkpoints, states, and models in stages.

An epoch that left the record's rows out, and those before it, did not. Where a manifest does not
state the order of its rows, every epoch counts as if it had used them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import CheckpointAttributes, TrainingStateAttributes
from dolly_assets.registry.inputs import input_digest
from dolly_assets.registry.kinds import MODEL_CHECKPOINT, TOKENIZED_DATASET, TRAINING_STATE
from dolly_assets.registry.record_holders import Holder
from dolly_assets.registry.stages import STAGES, checkpoint_of
from dolly_assets.storage.artifact import Artifact
from dolly_assets.training.packing.batches import rows_by_step


class FirstUse(NamedTuple):
    """When a training first used a record: epoch and step within it, both from 1."""

    epoch: int
    step: int


@dataclass(frozen=True)
class Exposure:
    """What learnt from a record.

    Attributes:
        checkpoints: The checkpoints that did, by name and digest.
        clean: The trained checkpoints of the same trainings that did not.
        states: Training states that did.
        staged: Publications of models in stages that did, newest first.
    """

    checkpoints: tuple[Artifact, ...]
    clean: tuple[Artifact, ...]
    states: tuple[Artifact, ...]
    staged: tuple[Artifact, ...]

    @classmethod
    def of(cls, artifacts: Iterable[Artifact], holders: Iterable[Holder]) -> "Exposure":
        """Find them among all publications of a store.

        Args:
            artifacts: All publications.
            holders: The datasets that hold the record.
        """
        artifacts = [*artifacts]
        trained_on = {each.artifact.digest: each for each in holders if each.side == "train"}
        concerned = [
            (each, trained_on[digest])
            for each in artifacts
            if each.manifest.kind in (MODEL_CHECKPOINT.name, TRAINING_STATE.name)
            and (digest := input_digest(each, TOKENIZED_DATASET)) in trained_on
        ]
        checkpoints = [
            pair
            for pair in concerned
            if pair[0].manifest.kind == MODEL_CHECKPOINT.name and _epoch(pair[0])
        ]
        exposed = [each for each, holder in checkpoints if _learnt(each, holder)]
        digests = {each.digest for each in exposed}
        kinds = {kind.name for kind in STAGES.values()}
        return cls(
            tuple(exposed),
            tuple(each for each, _ in checkpoints if each.digest not in digests),
            tuple(
                each
                for each, holder in concerned
                if each.manifest.kind == TRAINING_STATE.name and _learnt(each, holder)
            ),
            tuple(
                each
                for each in artifacts
                if each.manifest.kind in kinds and checkpoint_of(each) in digests
            ),
        )

    @property
    def models(self) -> tuple[Artifact, ...]:
        """Everything that learnt from it."""
        return (*self.staged, *self.checkpoints, *self.states)

    @property
    def trainings(self) -> Mapping[tuple[str, str], list[Artifact]]:
        """The exposed checkpoints by family and dataset."""
        found: dict[tuple[str, str], list[Artifact]] = {}
        for each in self.checkpoints:
            at = ArtifactAddress.parse(each.name)
            found.setdefault((at.family, at.dataset), []).append(each)
        return found

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            name: [{"name": each.name, "digest": each.digest} for each in found]
            for name, found in vars(self).items()
        }


def _epoch(checkpoint: Artifact) -> int:
    return CheckpointAttributes.of(checkpoint).epoch


def _learnt(model: Artifact, holder: Holder) -> bool:
    """Return whether a checkpoint or a state was made by a step that used the record, or later."""
    first = first_use(holder, model)
    if first is None:
        return False
    if model.manifest.kind == MODEL_CHECKPOINT.name:
        return _epoch(model) >= first.epoch
    state = TrainingStateAttributes.of(model)
    return (state.epoch, state.step) >= first


def first_use(holder: Holder, model: Artifact) -> FirstUse | None:
    """Return when the training of a model first used a record, up to the model's epoch."""
    recipe = model.manifest.attributes.get("recipe")
    if not isinstance(recipe, dict) or not {"global_batch_size", "seed"} <= recipe.keys():
        return FirstUse(1, 1)
    for epoch in range(_epoch_of_any(model)):
        steps = rows_by_step(
            holder.all_rows,
            global_batch_size=int(str(recipe["global_batch_size"])),
            seed=int(str(recipe["seed"])),
            epoch=epoch,
        )
        used = np.flatnonzero(np.isin(steps, holder.rows).any(axis=1))
        if used.size:
            return FirstUse(epoch + 1, int(used[0]) + 1)
    return None


def _epoch_of_any(model: Artifact) -> int:
    return int(str(model.manifest.attributes["epoch"]))
