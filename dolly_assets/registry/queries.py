"""What the store holds of an asset: by address, or of a training with its scores.

It knows addresses, kinds and attributes, and neither Dagster nor how anything is computed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from dolly_assets.core.errors import ArtifactError
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import Attributes
from dolly_assets.registry.inputs import as_inputs, inputs_of, is_made_from
from dolly_assets.registry.kinds import (
    EVALUATION,
    JUDGEMENT,
    KINDS,
    MODEL_CHECKPOINT,
    SAMPLE_RESPONSES,
    SUITE_SCORES,
    AssetKind,
)
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.flow import in_parallel


def latest(store: ArtifactStore, address: ArtifactAddress) -> Artifact | None:
    """Return the newest artifact at an address, if there is one."""
    return store.latest(address.name)


def required(store: ArtifactStore, address: ArtifactAddress) -> Artifact:
    """Return the newest artifact at an address.

    Raises:
        ArtifactError: There is none.
    """
    artifact = latest(store, address)
    if artifact is None:
        raise ArtifactError(f"{address} is not in the store {store.url}: materialize it first")
    return artifact


def required_checkpoints(
    store: ArtifactStore, family: ModelFamily, dataset: str, epochs: Iterable[int]
) -> dict[int, Artifact]:
    """Return the newest checkpoint of each epoch.

    Raises:
        ArtifactError: One is missing.
    """
    return {
        epoch: required(store, MODEL_CHECKPOINT.address(family.name, dataset, epoch))
        for epoch in epochs
    }


def newest(store: ArtifactStore, kind: AssetKind, family: str) -> Iterator[Artifact]:
    """Yield the newest artifact of each partition of an asset that a family has, by name."""
    return store.newest("/".join(kind.key(family)))


def history(store: ArtifactStore, address: ArtifactAddress) -> list[Artifact]:
    """Return all artifacts at an address, newest first, also under the kind's former names."""
    kind = KINDS.get(address.asset)
    found = store.history(address.name)
    for former in kind.former_names if kind else ():
        found += store.history(
            ArtifactAddress(address.family, former, address.dataset, address.epoch).name
        )
    return sorted(found, key=lambda item: item.manifest.created_at, reverse=True)


def newest_training(
    store: ArtifactStore,
    family: ModelFamily,
    dataset: str,
    kind: AssetKind = MODEL_CHECKPOINT,
    first_epoch: int = 0,
) -> dict[int, Artifact]:
    """Return the artifacts of the training that published last, by epoch.

    Epochs whose newest artifact is of another training are left out.
    """
    epochs = range(first_epoch, family.recipe.epochs + 1)
    found = in_parallel(
        lambda epoch: latest(store, kind.address(family.name, dataset, epoch)), epochs
    )
    by_epoch = {epoch: item for epoch, item in zip(epochs, found, strict=True) if item}
    if not by_epoch:
        return {}
    last = max(by_epoch.values(), key=lambda item: item.manifest.created_at)
    training = training_of(last)
    return {epoch: item for epoch, item in by_epoch.items() if training_of(item) == training}


def training_of(artifact: Artifact) -> str | None:
    """Return the digest of the training that an artifact belongs to."""
    return Attributes.of(artifact).training


@dataclass(frozen=True)
class ScoredEpoch:
    """A checkpoint with the scores and samples of exactly it, as far as they exist."""

    checkpoint: Artifact
    evaluation: Artifact | None
    sample_responses: Artifact | None
    suite_scores: Artifact | None = None
    judgement: Artifact | None = None

    @property
    def artifacts(self) -> list[Artifact]:
        """All that exist."""
        scores = (self.evaluation, self.sample_responses, self.suite_scores, self.judgement)
        return [self.checkpoint, *(item for item in scores if item)]


def scored_epochs(
    store: ArtifactStore, family: ModelFamily, dataset: str
) -> dict[int, ScoredEpoch]:
    """Return the epochs of the newest training with their scores by the family's settings."""

    def score(kind: AssetKind, epoch: int, checkpoint: Artifact) -> Artifact | None:
        found = latest(store, kind.address(family.name, dataset, epoch))
        return (
            found if found and is_score_of(found, checkpoint, kind.code_version(family)) else None
        )

    scored = {
        epoch: ScoredEpoch(
            checkpoint,
            score(EVALUATION, epoch, checkpoint),
            score(SAMPLE_RESPONSES, epoch, checkpoint),
            score(SUITE_SCORES, epoch, checkpoint) if family.evaluation.suites else None,
        )
        for epoch, checkpoint in newest_training(store, family, dataset).items()
    }
    return _with_judgements(store, family, dataset, scored) if family.evaluation.judge else scored


def _with_judgements(
    store: ArtifactStore, family: ModelFamily, dataset: str, scored: Mapping[int, ScoredEpoch]
) -> dict[int, ScoredEpoch]:
    """Return the epochs with the judgements of exactly their answers and the base model's."""

    def judgement(epoch: int) -> Artifact | None:
        found = latest(store, JUDGEMENT.address(family.name, dataset, epoch))
        if found is None or Attributes.of(found).settings != JUDGEMENT.code_version(family):
            return None
        answers = as_inputs(*(item for each in (0, epoch) for item in scored[each].artifacts))
        return found if inputs_of(found).items() <= answers.items() else None

    return {
        epoch: replace(each, judgement=judgement(epoch) if epoch and 0 in scored else None)
        for epoch, each in scored.items()
    }


def is_score_of(artifact: Artifact, checkpoint: Artifact, settings: str) -> bool:
    """Whether an evaluation or samples are of exactly this checkpoint, made with these settings."""
    return is_made_from(artifact, checkpoint) and Attributes.of(artifact).settings == settings


def comparison_inputs(epochs: Mapping[int, ScoredEpoch]) -> dict[str, str]:
    """Return everything that a comparison of these epochs shows, as its inputs."""
    return as_inputs(*(item for epoch in epochs.values() for item in epoch.artifacts))
