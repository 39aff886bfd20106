"""Whether an artifact is up to date: made from what is newest, with the settings that hold now.

One rule per kind, read by the pipeline. A kind without a rule of its own is current when it was
made from the newest artifacts of its inputs, with the family's settings. It knows the store alone:
whether Dagster knows the artifact, too, is the pipeline's business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from dolly_assets.core.errors import ArtifactError
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import RawDatasetAttributes, TokenizedDatasetAttributes
from dolly_assets.registry.inputs import as_inputs, inputs_of
from dolly_assets.registry.judgements import compared_answers
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    CHAMPION_MODEL,
    EPOCH_COMPARISON,
    EVALUATION,
    GPU_PROFILE,
    JUDGEMENT,
    KINDS,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    SAMPLE_RESPONSES,
    SUITE_SCORES,
    TOKENIZED_DATASET,
    TRAINING_PROFILE,
    AssetKind,
)
from dolly_assets.registry.profiles import profiles_of_newest_training
from dolly_assets.registry.queries import comparison_inputs, required, scored_epochs
from dolly_assets.registry.training import Training
from dolly_assets.storage.artifact import Artifact, ArtifactStore


@dataclass(frozen=True)
class Requirements:
    """What an artifact has to state to be current.

    Attributes:
        inputs: Names and digests that it was made from.
        attributes: Values that its manifest holds.
        only_these_inputs: Whether other inputs make it out of date.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, JsonValue] = field(default_factory=dict)
    only_these_inputs: bool = True

    def are_met_by(self, artifact: Artifact) -> bool:
        """Whether an artifact states all of it; one whose attributes can't be read doesn't."""
        inputs = inputs_of(artifact)
        if self.only_these_inputs and inputs.keys() != self.inputs.keys():
            return False
        try:
            stated = KINDS[artifact.manifest.kind].attributes.of(artifact).model_dump(mode="json")
        except ArtifactError:
            return False
        return self.inputs.items() <= inputs.items() and all(
            stated.get(name) == value for name, value in self.attributes.items()
        )


def is_current(store: ArtifactStore, family: ModelFamily, artifact: Artifact) -> bool:
    """Whether the newest artifact at its address is up to date.

    Raises:
        ArtifactError: Something that it should be made from is not in the store.
    """
    address = ArtifactAddress.parse(artifact.name)
    return requirements(store, family, address).are_met_by(artifact)


def requirements(
    store: ArtifactStore, family: ModelFamily, address: ArtifactAddress
) -> Requirements:
    """Return what an artifact at an address has to state to be current.

    Raises:
        ArtifactError: Something that it should be made from is not in the store.
    """
    kind = KINDS[address.asset]
    return _RULES.get(kind, _newest_inputs)(store, family, address)


_Rule = Callable[[ArtifactStore, ModelFamily, ArtifactAddress], Requirements]


def _newest_inputs(
    store: ArtifactStore, family: ModelFamily, address: ArtifactAddress
) -> Requirements:
    """Require the newest artifacts of the kind's inputs, and the family's settings."""
    kind = KINDS[address.asset]
    inputs = [_input(store, each, address) for each in kind.inputs]
    return Requirements(as_inputs(*inputs), {"settings": kind.code_version(family)})


def _base_model(
    store: ArtifactStore, family: ModelFamily, address: ArtifactAddress
) -> Requirements:
    """Require besides that it carries the template that the family names, if it names one."""
    required_too = _newest_inputs(store, family, address)
    if family.template is None:
        return required_too
    name = family.template if isinstance(family.template, str) else family.template.name
    return Requirements(required_too.inputs, {**required_too.attributes, "template": name})


def _tokenized_dataset(
    store: ArtifactStore, family: ModelFamily, address: ArtifactAddress
) -> Requirements:
    """Require besides that the answers are of the kind that the dataset says."""
    raw = RawDatasetAttributes.of(_input(store, RAW_DATASET, address))
    required_too = _newest_inputs(store, family, address)
    return Requirements(required_too.inputs, {**required_too.attributes, "answers": raw.answers})


def of_training(training: Training) -> Requirements:
    """Return what an epoch's checkpoint and profile have to state to belong to a training."""
    return Requirements(attributes={"training": training.digest}, only_these_inputs=False)


def _of_newest_training(
    store: ArtifactStore, family: ModelFamily, address: ArtifactAddress
) -> Requirements:
    return of_training(Training.newest(store, family, address.dataset))


def _score(store: ArtifactStore, family: ModelFamily, address: ArtifactAddress) -> Requirements:
    """Require the newest checkpoint of the epoch and, of scores, the dataset's kind of answers."""
    kind = KINDS[address.asset]
    checkpoint = _input(store, MODEL_CHECKPOINT, address)
    attributes: dict[str, JsonValue] = {"settings": kind.code_version(family)}
    if kind is EVALUATION:
        tokenized = TokenizedDatasetAttributes.of(_input(store, TOKENIZED_DATASET, address))
        attributes["answers"] = tokenized.answers
    return Requirements(as_inputs(checkpoint), attributes, only_these_inputs=False)


def _judgement(store: ArtifactStore, family: ModelFamily, address: ArtifactAddress) -> Requirements:
    """Require the newest answers of the epoch and of the base model, and the family's judge."""
    answers = compared_answers(store, address)
    return Requirements(as_inputs(*answers), {"settings": JUDGEMENT.code_version(family)})


def _epoch_comparison(
    store: ArtifactStore, family: ModelFamily, address: ArtifactAddress
) -> Requirements:
    """Require all epochs of the newest training, with their scores."""
    return Requirements(comparison_inputs(scored_epochs(store, family, address.dataset)))


def _training_profile(
    store: ArtifactStore, family: ModelFamily, address: ArtifactAddress
) -> Requirements:
    """Require the profiles of the newest training, those of interrupted epochs included."""
    profiles = profiles_of_newest_training(store, family, address.dataset)
    interrupted: list[JsonValue] = [*profiles.interrupted_digests]
    return Requirements(profiles.inputs, {"interrupted": interrupted})


def _champion_model(
    store: ArtifactStore, family: ModelFamily, address: ArtifactAddress
) -> Requirements:
    """Require that it was challenged by the newest comparison."""
    comparison = _input(store, EPOCH_COMPARISON, address)
    return Requirements(as_inputs(comparison), only_these_inputs=False)


_RULES: dict[AssetKind, _Rule] = {
    BASE_MODEL: _base_model,
    TOKENIZED_DATASET: _tokenized_dataset,
    MODEL_CHECKPOINT: _of_newest_training,
    GPU_PROFILE: _of_newest_training,
    EVALUATION: _score,
    SAMPLE_RESPONSES: _score,
    SUITE_SCORES: _score,
    JUDGEMENT: _judgement,
    EPOCH_COMPARISON: _epoch_comparison,
    TRAINING_PROFILE: _training_profile,
    CHAMPION_MODEL: _champion_model,
}


def _input(store: ArtifactStore, kind: AssetKind, address: ArtifactAddress) -> Artifact:
    """Return the newest artifact of another kind for the same family, dataset and epoch."""
    return required(store, kind.address(address.family, address.dataset, address.epoch))
