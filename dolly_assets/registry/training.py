"""What the store already has of a training, and so what is left to train.

A training is named by the digest of what decides its weights: base model, tokenized dataset and
recipe. Epochs are looked up by that digest, so a changed recipe never continues from another
recipe's epoch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from dolly_assets.core.errors import TrainingError
from dolly_assets.core.hashing import json_digest
from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import CheckpointAttributes, TrainingStateAttributes
from dolly_assets.registry.inputs import as_inputs, input_digest
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    GPU_PROFILE,
    MODEL_CHECKPOINT,
    TOKENIZED_DATASET,
    TRAINING_STATE,
    AssetKind,
)
from dolly_assets.registry.queries import history, latest, required, training_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.training.loop.early_stopping import StoppedEarly


@dataclass(frozen=True)
class Training:
    """One training of a family on a dataset.

    Attributes:
        family: The family, with the recipe.
        dataset: The dataset's name.
        base_model: What the training starts from.
        tokenized_dataset: What it trains on.
    """

    family: ModelFamily
    dataset: str
    base_model: Artifact
    tokenized_dataset: Artifact

    @classmethod
    def newest(cls, store: ArtifactStore, family: ModelFamily, dataset: str) -> Self:
        """Return the training of the newest base model and tokenized dataset.

        Raises:
            ArtifactError: One of them is not in the store.
        """
        base_model = required(store, BASE_MODEL.address(family.name))
        return cls(
            family,
            dataset,
            base_model,
            required(store, TOKENIZED_DATASET.address(family.name, dataset)),
        )

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of base model, tokenized dataset and recipe."""
        parts = [self.base_model.digest, self.tokenized_dataset.digest, self.family.recipe.digest]
        return json_digest(parts)

    @property
    def inputs(self) -> dict[str, str]:
        """Base model and tokenized dataset, as the inputs of a manifest."""
        return as_inputs(self.base_model, self.tokenized_dataset)

    def published(self, store: ArtifactStore, kind: AssetKind, epoch: int) -> Artifact | None:
        """Return the newest artifact of an epoch of this training, if there is one."""
        published = history(store, kind.address(self.family.name, self.dataset, epoch))
        return next((item for item in published if training_of(item) == self.digest), None)

    def held_out_losses(self, store: ArtifactStore, before: int) -> dict[int, float]:
        """Return the held-out losses that early stopping kept of its epochs before an epoch."""
        if self.family.recipe.early_stopping is None:
            return {}
        found = [self.published(store, MODEL_CHECKPOINT, epoch) for epoch in range(1, before)]
        return held_out_losses([each for each in found if each])

    def stopped_early(self, store: ArtifactStore) -> StoppedEarly | None:
        """Return the verdict of early stopping on its published epochs, if there is one."""
        rule = self.family.recipe.early_stopping
        epochs = self.family.recipe.epochs + 1
        return rule.verdict(self.held_out_losses(store, epochs)) if rule else None

    def partial_state(
        self, store: ArtifactStore, epoch: int, runs: Collection[str] | None = None
    ) -> Artifact | None:
        """Return the newest state within an epoch of this training, if its content is there.

        Args:
            store: Where it is looked up.
            epoch: The epoch.
            runs: Ids of the runs that may have made it; None for any.
        """
        for item in history(store, TRAINING_STATE.address(self.family.name, self.dataset)):
            stated = TrainingStateAttributes.of(item)
            if (stated.training, stated.epoch) == (self.digest, epoch) and _is_of(item, runs):
                return item if item.is_complete() else None
        return None


@dataclass(frozen=True)
class ResumePlan:
    """Which of the requested epochs are in the store, which are left, and where training resumes.

    Attributes:
        published: Profile and checkpoint of each epoch that is in the store.
        epochs: The epochs that are left to train, consecutive.
        resume_from: The checkpoint of the epoch before.
        state: A state within the first epoch to train, if an interrupted run left one.
        held_out_losses: Those of earlier epochs, for early stopping.
        stopped: Why nothing is left though requested epochs are not published.
    """

    published: tuple[Artifact, ...]
    epochs: tuple[int, ...]
    resume_from: Artifact | None
    state: Artifact | None = None
    held_out_losses: Mapping[int, float] = field(default_factory=dict)
    stopped: StoppedEarly | None = None


def plan_resume(
    store: ArtifactStore,
    training: Training,
    epochs: Sequence[int],
    *,
    retrain: bool,
    attempts: Collection[str] = (),
) -> ResumePlan:
    """Return what is left of the requested epochs.

    Args:
        store: Where epochs are looked up.
        training: The training that they belong to.
        epochs: The requested epochs, ascending.
        retrain: Train also what is in the store; only the epoch before the first is used, and what
            earlier attempts have trained.
        attempts: Ids of the run and of those that it executes again.

    Raises:
        TrainingError: The epochs have a gap, or the epoch before the first one to train is not in
            the store.
    """
    if list(epochs) != list(range(epochs[0], epochs[-1] + 1)):
        raise TrainingError(f"epochs {list(epochs)} have a gap: select a range without one")
    published: list[Artifact] = []
    left = list(epochs)
    runs = attempts if retrain else None
    while left:
        newest = [
            training.published(store, kind, left[0]) for kind in (GPU_PROFILE, MODEL_CHECKPOINT)
        ]
        found = [artifact for artifact in newest if artifact and _is_of(artifact, runs)]
        if len(found) < len(newest):
            break
        published += found
        left.pop(0)
    if not left:
        return ResumePlan(tuple(published), (), None)
    first = max(1, left[0])
    losses, rule = training.held_out_losses(store, first), training.family.recipe.early_stopping
    if stopped := rule.verdict(losses) if rule else None:
        return ResumePlan(tuple(published), (), None, stopped=stopped)
    return ResumePlan(
        tuple(published),
        tuple(left),
        resume_from=_checkpoint_before(store, training, first) if first > 1 else None,
        state=training.partial_state(store, first, runs),
        held_out_losses=losses,
    )


def held_out_losses(published: Sequence[Artifact]) -> dict[int, float]:
    """Return the held-out losses that early stopping kept, by epoch, of checkpoints among these."""
    found = [
        CheckpointAttributes.of(each)
        for each in published
        if each.manifest.kind == MODEL_CHECKPOINT.name
    ]
    return {each.epoch: each.held_out_loss for each in found if each.held_out_loss is not None}


def republish_as_latest(store: ArtifactStore, artifact: Artifact) -> Artifact:
    """Return the artifact as the newest of its name.

    It is published again, without sending its bytes, if another training has published since.
    """
    newest = store.latest(artifact.name)
    if newest and newest.manifest == artifact.manifest:
        return artifact
    manifest = artifact.manifest
    return store.commit(
        artifact.name,
        manifest.files,
        kind=manifest.kind,
        inputs=manifest.inputs,
        attributes=manifest.attributes,
        made_by=manifest.made_by,
    )


def _is_of(artifact: Artifact, runs: Collection[str] | None) -> bool:
    """Return whether one of these runs, or any run for None, has made an artifact."""
    return runs is None or artifact.manifest.made_by.get("run_id") in runs


def _checkpoint_before(store: ArtifactStore, training: Training, epoch: int) -> Artifact:
    """Return the checkpoint that an epoch continues from.

    Raises:
        TrainingError: There is none of this training, or its training state was deleted.
    """
    found = training.published(store, MODEL_CHECKPOINT, epoch - 1)
    had_state = found and any(entry.path.startswith("state/") for entry in found.manifest.files)
    if found and (not had_state or found.is_complete("state")):
        return found
    family, dataset = training.family.name, training.dataset
    other = latest(store, MODEL_CHECKPOINT.address(family, dataset, epoch - 1))
    if found:
        raise TrainingError(
            f"epoch {epoch} of {family} on {dataset} continues from epoch {epoch - 1}, whose "
            "training state was dropped by garbage collection: train again from epoch 1, with "
            "retrain"
        )
    why = (
        "is not in the store"
        if other is None
        else f"in the store is of another training ({_difference(training, other)})"
    )
    raise TrainingError(
        f"epoch {epoch} of {family} on {dataset} continues from epoch {epoch - 1}, which {why}: "
        f"select epochs 1-{epoch}, or run: dolly train --model {family} --dataset {dataset} "
        f"--epochs 1-{epoch}"
    )


def _difference(training: Training, other: Artifact) -> str:
    """Describe what has changed since another training."""
    pairs = (
        (kind.name, input_digest(other, kind) or "none", now.digest)
        for kind, now in (
            (BASE_MODEL, training.base_model),
            (TOKENIZED_DATASET, training.tokenized_dataset),
        )
    )
    changed = [
        f"{name} from {before[:8]} to {now[:8]}" for name, before, now in pairs if before != now
    ]
    if recipe := CheckpointAttributes.of(other).recipe:
        changed += training.family.recipe.changes_since(recipe)
    return f"changed since: {', '.join(changed) or 'recipe'}"
