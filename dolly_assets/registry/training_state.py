"""What the store already has of a training, and so what is left to train.

A training is named by the digest of what decides its weights: base model, tokenized dataset and
recipe. Epochs are looked up by that digest, so a changed recipe never continues from another
recipe's epoch.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from dolly_assets.core.errors import TrainingError
from dolly_assets.family import ModelFamily
from dolly_assets.registry.kinds import GPU_PROFILE, MODEL_CHECKPOINT, TRAINING_STATE, AssetKind
from dolly_assets.registry.queries import history, latest
from dolly_assets.storage.artifact import Artifact, ArtifactStore


@dataclass(frozen=True)
class Training:
    """One training of a family on a dataset."""

    family: ModelFamily
    dataset: str
    base_model: Artifact
    tokenized_dataset: Artifact

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of base model, tokenized dataset and recipe."""
        parts = [self.base_model.digest, self.tokenized_dataset.digest, self.family.recipe.digest]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def published(self, store: ArtifactStore, kind: AssetKind, epoch: int) -> Artifact | None:
        """The newest artifact of an epoch of this very training."""
        address = kind.address(self.family.name, self.dataset, epoch)
        return next(
            (
                item
                for item in history(store, address)
                if item.manifest.attributes.get("training") == self.digest
            ),
            None,
        )

    def partial_state(self, store: ArtifactStore, epoch: int) -> Artifact | None:
        """The newest state of this very training within an epoch."""
        address = TRAINING_STATE.address(self.family.name, self.dataset)
        of_this = {"training": self.digest, "epoch": epoch}
        found = next(
            (
                item
                for item in history(store, address)
                if of_this.items() <= item.manifest.attributes.items()
            ),
            None,
        )
        return found if found and found.is_complete() else None


@dataclass(frozen=True)
class ResumePlan:
    """Which of the epochs asked for are in the store, and which are left, and where to go on from."""

    published: tuple[Artifact, ...]  # profile and checkpoint of each epoch that is there
    epochs: tuple[int, ...]  # left to train, consecutive
    resume_from: Artifact | None  # the checkpoint of the epoch before
    state: Artifact | None = None  # within the first epoch to train, where one was left


def plan_resume(
    store: ArtifactStore, training: Training, epochs: Sequence[int], *, retrain: bool
) -> ResumePlan:
    """Plans the epochs asked for; with `retrain` nothing that is there is used, but the epoch before the first.

    Raises:
        TrainingError: The epochs have a gap, or the epoch before the first one to train is not in
            the store.
    """
    if list(epochs) != list(range(epochs[0], epochs[-1] + 1)):
        raise TrainingError(f"epochs {list(epochs)} have a gap: select a range without one")
    published: list[Artifact] = []
    left = list(epochs)
    while left and not retrain:
        found = [
            training.published(store, kind, left[0]) for kind in (GPU_PROFILE, MODEL_CHECKPOINT)
        ]
        if None in found:
            break
        published += [artifact for artifact in found if artifact]
        left.pop(0)
    if not left:
        return ResumePlan(tuple(published), (), None)
    first = max(1, left[0])
    return ResumePlan(
        tuple(published),
        tuple(left),
        resume_from=_checkpoint_before(store, training, first) if first > 1 else None,
        state=None if retrain else training.partial_state(store, first),
    )


def republish_as_latest(store: ArtifactStore, artifact: Artifact) -> Artifact:
    """The artifact as the newest of its name: published again, without its bytes, if another training came since."""
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


def _checkpoint_before(store: ArtifactStore, training: Training, epoch: int) -> Artifact:
    found = training.published(store, MODEL_CHECKPOINT, epoch - 1)
    had_state = found and any(entry.path.startswith("state/") for entry in found.manifest.files)
    if found and (not had_state or found.is_complete("state")):
        return found
    family, dataset = training.family.name, training.dataset
    other = latest(store, MODEL_CHECKPOINT.address(family, dataset, epoch - 1))
    if found:
        raise TrainingError(
            f"epoch {epoch} of {family} on {dataset} continues from epoch {epoch - 1}, whose training state "
            "was dropped by garbage collection: train again from epoch 1, with retrain"
        )
    why = (
        "is not in the store"
        if other is None
        else f"in the store is of another training ({_difference(training, other)})"
    )
    raise TrainingError(
        f"epoch {epoch} of {family} on {dataset} continues from epoch {epoch - 1}, which {why}: "
        f"select epochs 1-{epoch}, or run: dolly train --model {family} --dataset {dataset} --epochs 1-{epoch}"
    )


def _difference(training: Training, other: Artifact) -> str:
    inputs = {
        "base_model": training.base_model.digest,
        "tokenized_dataset": training.tokenized_dataset.digest,
    }
    before = {name: other.manifest.inputs.get(name, "none") for name in inputs}
    changed = [
        f"{name} from {before[name][:8]} to {now[:8]}"
        for name, now in inputs.items()
        if before[name] != now
    ]
    recipe = other.manifest.attributes.get("recipe")
    if isinstance(recipe, dict):
        changed += training.family.recipe.changes_since(recipe)
    return f"changed since: {', '.join(changed) or 'recipe'}"
