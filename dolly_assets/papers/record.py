"""What the store records of a model: what papers are written from.

Gathers the lineage, the attributes of the epochs, scores and samples of exactly one checkpoint. It
computes sums over epochs, and states nothing that no manifest states.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from dolly_assets.core.errors import ArtifactError
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import (
    BaseModelAttributes,
    ChampionAttributes,
    CheckpointAttributes,
    EvaluationAttributes,
    ProfileAttributes,
    QualityAttributes,
    RawDatasetAttributes,
    SampleAttributes,
    SuiteScore,
    SuiteScoresAttributes,
    TokenizedDatasetAttributes,
)
from dolly_assets.registry.inputs import inputs_of
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    DATASET_QUALITY,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    SAMPLE_RESPONSES,
    SUITE_SCORES,
    TOKENIZED_DATASET,
    AssetKind,
)
from dolly_assets.registry.lineage import Lineage
from dolly_assets.registry.model_folders import has_weights
from dolly_assets.registry.published_templates import GENERATION_FILE, TEMPLATE_FILE
from dolly_assets.registry.queries import history
from dolly_assets.registry.stages import STAGES, checkpoint_of, evaluation_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore

MODELS = (MODEL_CHECKPOINT, *STAGES.values())


class Epoch(NamedTuple):
    """An epoch of the model's training, and the profile of it if the store has one."""

    trained: CheckpointAttributes
    profile: ProfileAttributes | None

    def measured(self, name: str) -> float | None:
        """Return a figure of the profile."""
        found = getattr(self.profile, name, None)
        return found if isinstance(found, int | float) else None


@dataclass(frozen=True)
class ModelRecord:
    """A checkpoint or a model in a stage, with what the store has on it.

    Attributes:
        store: Where it is.
        model: The model.
        is_merged: Whether an adapter's weights are merged where the papers are read.
    """

    store: ArtifactStore
    model: Artifact
    is_merged: bool = False

    def __post_init__(self) -> None:
        if self.model.manifest.kind not in [kind.name for kind in MODELS]:
            raise ArtifactError(
                f"{self.model.name} is of the kind {self.model.manifest.kind}, and no model: name "
                "a checkpoint, as MODEL/DATASET/EPOCH, or a model in a stage, as MODEL/DATASET"
            )

    @cached_property
    def address(self) -> ArtifactAddress:
        """Its family, dataset and epoch."""
        at = ArtifactAddress.parse(self.model.name)
        return ArtifactAddress(at.family, at.asset, at.dataset, self.stated.epoch)

    @property
    def title(self) -> str:
        """What it is called, such as `demo on demo, epoch 3`."""
        at = self.address
        epoch = f"epoch {at.epoch}" if at.epoch else "the base model"
        return f"{at.family} on {at.dataset}, {epoch}"

    @cached_property
    def stated(self) -> CheckpointAttributes:
        """What its own manifest states; of a model in a stage, its checkpoint's if it is there."""
        return CheckpointAttributes.of(self.checkpoint or self.model)

    @cached_property
    def champion(self) -> ChampionAttributes | None:
        """The decision that brought it into a stage, if it is there."""
        if self.model.manifest.kind == MODEL_CHECKPOINT.name:
            return None
        return ChampionAttributes.of(self.model)

    @cached_property
    def lineage(self) -> Lineage:
        """What it was made from."""
        return Lineage(self.store, self.model)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What `dolly lineage --json` prints of it."""
        return self.lineage.as_json()

    @cached_property
    def checkpoint(self) -> Artifact | None:
        """The checkpoint; None if the store only has the model in the stage."""
        return self.lineage.of_kind(MODEL_CHECKPOINT)

    @cached_property
    def epochs(self) -> list[Epoch]:
        """The trained epochs up to it, the first one first."""
        found = []
        for item in self.lineage.ancestors:
            if item.manifest.kind == MODEL_CHECKPOINT.name:
                trained = CheckpointAttributes.of(item)
                profile = self.lineage.profile_of(item)
                if trained.epoch:
                    found.append(Epoch(trained, ProfileAttributes.of(profile) if profile else None))
        return sorted(found, key=lambda epoch: epoch.trained.epoch)

    def total(self, name: str) -> float | None:
        """Return the sum over all epochs of a checkpoint's figure; None if one lacks it."""
        return _total(getattr(epoch.trained, name) for epoch in self._every_epoch())

    def measured(self, name: str) -> float | None:
        """Return the sum over all epochs of a profile's figure; None if one lacks it."""
        return _total(epoch.measured(name) for epoch in self._every_epoch())

    def _every_epoch(self) -> list[Epoch]:
        """Return all epochs, or none if one of them is no longer in the store."""
        return self.epochs if len(self.epochs) == self.stated.epoch else []

    @cached_property
    def base_model(self) -> BaseModelAttributes | None:
        """The base model."""
        found = self.lineage.of_kind(BASE_MODEL)
        return BaseModelAttributes.of(found) if found else None

    @cached_property
    def raw_dataset(self) -> Artifact | None:
        """The data, as its source gave it."""
        return self.lineage.of_kind(RAW_DATASET)

    @cached_property
    def data(self) -> RawDatasetAttributes | None:
        """What is stated of the data."""
        return RawDatasetAttributes.of(self.raw_dataset) if self.raw_dataset else None

    @cached_property
    def tokenized(self) -> TokenizedDatasetAttributes | None:
        """What was trained on, held out and left out."""
        found = self.lineage.of_kind(TOKENIZED_DATASET)
        return TokenizedDatasetAttributes.of(found) if found else None

    @cached_property
    def quality(self) -> dict[str, int] | None:
        """Records with defects, by the check that found them; None if none was run."""
        if self.raw_dataset is None:
            return None
        at = DATASET_QUALITY.address(dataset=self.address.dataset)
        digest = self.raw_dataset.digest
        for report in history(self.store, at):
            if digest in inputs_of(report).values():
                return QualityAttributes.of(report).found
        return None

    @cached_property
    def evaluation(self) -> EvaluationAttributes | None:
        """Its scores on held-out examples."""
        at = self.address
        found = evaluation_of(self.store, at.family, at.dataset, self.model)
        return EvaluationAttributes.of(found) if found else None

    @cached_property
    def suites(self) -> dict[str, SuiteScore]:
        """Its scores on suites."""
        found = self._of_checkpoint(SUITE_SCORES)
        return SuiteScoresAttributes.of(found).suites if found else {}

    @cached_property
    def samples_markdown(self) -> str | None:
        """Its answers to the family's prompts."""
        found = self._of_checkpoint(SAMPLE_RESPONSES)
        return SampleAttributes.of(found).responses_markdown if found else None

    @cached_property
    def template(self) -> str | None:
        """The text of the chat template that prompts it."""
        return self._text(TEMPLATE_FILE)

    @cached_property
    def generation_config(self) -> str | None:
        """The settings that servers generate with, as JSON."""
        return self._text(GENERATION_FILE)

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter that needs its base model."""
        return not self.is_merged and not has_weights(self.model)

    def _text(self, file: str) -> str | None:
        for item in (self.model, self.lineage.of_kind(BASE_MODEL)):
            if item and item.holds(file):
                return item.read_bytes(file).decode(errors="replace")
        return None

    def _of_checkpoint(self, kind: AssetKind) -> Artifact | None:
        """Return the newest artifact of a kind that was made from exactly this checkpoint."""
        at, digest = self.address, checkpoint_of(self.model)
        for found in history(self.store, kind.address(at.family, at.dataset, at.epoch)):
            if digest in inputs_of(found).values():
                return found
        return None


def _total(amounts: Iterable[float | None]) -> float | None:
    found = [*amounts]
    return sum(each for each in found if each) if found and None not in found else None
