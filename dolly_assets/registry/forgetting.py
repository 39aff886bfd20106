"""What it takes to forget a record: what holds it, what learnt it, and what can take its place.

It reads the store and states commands; it changes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.estimate import Estimator
from dolly_assets.registry.exposure import Exposure
from dolly_assets.registry.inputs import inputs_of
from dolly_assets.registry.kinds import (
    GPU_PROFILE,
    INTERRUPTED_PROFILE,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    TOKENIZED_DATASET,
    TRAINING_APPROVAL,
    TRAINING_PLAN,
    TRAINING_PROFILE,
    TRAINING_STATE,
)
from dolly_assets.registry.record_holders import Holder, find_record, holders_of
from dolly_assets.registry.remedies import Remedy, remedy_for
from dolly_assets.registry.stages import STAGES
from dolly_assets.storage.artifact import Artifact, ArtifactStore

_PROFILES = (GPU_PROFILE, TRAINING_PROFILE, INTERRUPTED_PROFILE)
_NO_TEXTS = {kind.name for kind in (TRAINING_PLAN, TRAINING_APPROVAL, *_PROFILES)}
"""Kinds that hold figures alone."""
_MODELS_AND_DATA = {
    kind.name
    for kind in (MODEL_CHECKPOINT, TRAINING_STATE, RAW_DATASET, TOKENIZED_DATASET, *STAGES.values())
}


@dataclass(frozen=True)
class Forgetting:
    """Everything that concerns a record.

    Attributes:
        raw_dataset: The publication that the record was found in.
        record: Its number there.
        texts: What is asked last in it, and the answer.
        holders: The datasets that hold it.
        exposure: The models that learnt from it.
        sources: Those of them that are the newest of their raw dataset.
        derived: What was made from these, and may quote it.
        remedies: What to do, by family and dataset.
    """

    raw_dataset: Artifact
    record: int
    texts: tuple[str, ...]
    holders: tuple[Holder, ...]
    exposure: Exposure
    sources: tuple[Holder, ...]
    derived: tuple[Artifact, ...]
    remedies: tuple[Remedy, ...]

    @property
    def derived_kinds(self) -> Mapping[str, int]:
        """How many artifacts of each kind were made from these."""
        return dict(sorted(Counter(each.manifest.kind for each in self.derived).items()))

    @property
    def affected(self) -> list[str]:
        """The names of all artifacts that hold it, learnt it or may quote it."""
        holders = [each.artifact for each in self.holders if each.side != "left out"]
        return sorted({each.name for each in (*holders, *self.exposure.models, *self.derived)})

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "dataset": ArtifactAddress.parse(self.raw_dataset.name).dataset,
            "digest": self.raw_dataset.digest,
            "record": self.record,
            "text": " → ".join(self.texts),
            "held_by": [each.as_json() for each in self.holders],
            "learnt_by": self.exposure.as_json(),
            "made_from_these": dict(self.derived_kinds),
            "remedies": [each.as_json() for each in self.remedies],
        }


def forgetting(
    store: ArtifactStore,
    families: Mapping[str, ModelFamily],
    estimator: Estimator,
    name: str,
    digest: str | None = None,
) -> Forgetting:
    """Return what to do so that a record is forgotten.

    Args:
        store: Where everything is looked up.
        families: The families that can be trained here.
        estimator: Plans the retraining.
        name: The record, as `DATASET/N` or `DATASET/id:ID`.
        digest: The publication of the raw dataset, if the number is that of an older one.

    Raises:
        DatasetError: There is no such record, or several.
        ArtifactError: The store cannot be read.
    """
    artifacts = [*store.every()]
    raw, record, said = find_record(artifacts, name, digest)
    holders = holders_of(artifacts, said)
    exposure = Exposure.of(artifacts, holders)
    asked, answer = said.prompt, said.messages[len(said.prompt.messages) :]
    return Forgetting(
        raw,
        record,
        tuple(message.text for message in (*asked.messages[-1:], *answer[:1])),
        tuple(holders),
        exposure,
        tuple(each for each in holders if _is_newest(store, each)),
        _derived(artifacts, holders, exposure),
        tuple(
            remedy_for(store, families.get(family), estimator, family, dataset, exposed)
            for (family, dataset), exposed in sorted(exposure.trainings.items())
        ),
    )


def _is_newest(store: ArtifactStore, holder: Holder) -> bool:
    newest = store.latest(holder.artifact.name) if holder.side == "raw" else None
    return newest is not None and newest.digest == holder.artifact.digest


def _derived(
    artifacts: Sequence[Artifact], holders: Iterable[Holder], exposure: Exposure
) -> tuple[Artifact, ...]:
    """Return what was made from datasets that hold a record and from models that learnt it."""
    made = [holder.artifact for holder in holders if holder.side != "left out"]
    known = _pairs([*made, *exposure.models])
    left = [each for each in artifacts if each.manifest.kind not in _MODELS_AND_DATA | _NO_TEXTS]
    derived: list[Artifact] = []
    while found := [each for each in left if known & {*inputs_of(each).items()}]:
        known |= _pairs(found)
        derived += found
        left = [each for each in left if each not in found]
    return tuple(derived)


def _pairs(artifacts: Iterable[Artifact]) -> set[tuple[str, str]]:
    return {(each.name, each.digest) for each in artifacts}
