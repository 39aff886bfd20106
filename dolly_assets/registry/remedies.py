"""What can take the place of models that learnt a record: another model, or training again.

Knows models in stages and plans, not how it is known which of them learnt the record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import one_line
from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import CheckpointAttributes, EvaluationAttributes
from dolly_assets.registry.estimate import Estimator
from dolly_assets.registry.kinds import MODEL_CHECKPOINT
from dolly_assets.registry.queries import training_of
from dolly_assets.registry.stages import (
    STAGES,
    Stage,
    changes,
    checkpoint_of,
    evaluation_of,
    model_in,
    withdrawn_from,
)
from dolly_assets.registry.training import Training
from dolly_assets.storage.artifact import Artifact, ArtifactStore


class Replacement(NamedTuple):
    """A trained epoch that did not learn the record, and is the newest of its name.

    Attributes:
        epoch: The epoch.
        held_out_loss: Its held-out loss; None if it was not scored.
        why: Why it is free of the record.
    """

    epoch: int
    held_out_loss: float | None
    why: str


class Retraining(NamedTuple):
    """Training again without the record.

    Attributes:
        epochs: How many epochs: up to the one that is in use, else all that were trained.
        trained: How many epochs were trained.
        hours: How long it takes by the plan; None if that is not known.
        cost_usd: What it costs; None if that is not known.
        unknown: Why the plan is not known; empty if it is.
    """

    epochs: int
    trained: int
    hours: float | None = None
    cost_usd: float | None = None
    unknown: str = ""


@dataclass(frozen=True)
class Remedy:
    """What is to be done about a family's models of a dataset.

    Attributes:
        family: The family.
        dataset: The dataset.
        stages: The stages whose present model learnt the record, with the number of rollbacks to
            one that did not; None if none leads there.
        replacements: Epochs that can be promoted instead, the best first.
        retraining: What training again takes.
    """

    family: str
    dataset: str
    stages: Mapping[Stage, int | None]
    replacements: tuple[Replacement, ...]
    retraining: Retraining

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "model": f"{self.family}/{self.dataset}",
            "withdraw_from": list(self.stages),
            "rollbacks": dict(self.stages),
            "replacements": [each._asdict() for each in self.replacements],
            "retraining": self.retraining._asdict(),
        }


def remedy_for(
    store: ArtifactStore,
    family: ModelFamily | None,
    estimator: Estimator,
    name: str,
    dataset: str,
    exposed: Sequence[Artifact],
) -> Remedy:
    """Return what is to be done about a family's models of a dataset.

    Args:
        store: Where the models are.
        family: The family; None if it is not declared here.
        estimator: Plans the retraining.
        name: The family's name.
        dataset: The dataset.
        exposed: The checkpoints that learnt the record; there is at least one.
    """
    digests = {each.digest for each in exposed}
    current: dict[Stage, Artifact | None] = {
        stage: model_in(store, name, dataset, stage) for stage in STAGES
    }
    stages: dict[Stage, int | None] = {
        stage: _rollbacks(store, name, dataset, stage, digests)
        for stage, model in current.items()
        if model and checkpoint_of(model) in digests
    }
    used = [CheckpointAttributes.of(model).epoch for stage in stages if (model := current[stage])]
    trained = max(CheckpointAttributes.of(each).epoch for each in exposed)
    return Remedy(
        name,
        dataset,
        stages,
        _replacements(store, name, dataset, exposed),
        _retraining(store, family, estimator, name, dataset, max(used, default=trained), trained),
    )


def _rollbacks(
    store: ArtifactStore, family: str, dataset: str, stage: Stage, exposed: set[str]
) -> int | None:
    """Return how many rollbacks lead to a model that did not learn it; None if none does."""
    models = changes(store, family, dataset, stage)
    withdrawn = {*withdrawn_from(models[0]), checkpoint_of(models[0])}
    count = 0
    while former := next((each for each in models if checkpoint_of(each) not in withdrawn), None):
        if not former.is_complete():
            return None
        count += 1
        if checkpoint_of(former) not in exposed:
            return count
        withdrawn.add(checkpoint_of(former))
    return None


def _replacements(
    store: ArtifactStore, family: str, dataset: str, exposed: Sequence[Artifact]
) -> tuple[Replacement, ...]:
    """Return the epochs that `dolly promote` can bring into a stage instead, the best first."""
    digests, trainings = {each.digest for each in exposed}, {*map(training_of, exposed)}
    prefix = "/".join([*MODEL_CHECKPOINT.key(family), dataset])
    found = []
    for each in store.newest(prefix):
        epoch = CheckpointAttributes.of(each).epoch
        is_there = any(each.is_complete(folder) for folder in ("weights", "adapter"))
        if not epoch or each.digest in digests or not is_there:
            continue
        scores = evaluation_of(store, family, dataset, each)
        why = (
            "published before the record came in"
            if training_of(each) in trainings
            else "of a training without the record"
        )
        loss = EvaluationAttributes.of(scores).held_out_loss if scores else None
        found.append(Replacement(epoch, loss, why))
    unknown = float("inf")
    return tuple(
        sorted(
            found,
            key=lambda each: (
                unknown if each.held_out_loss is None else each.held_out_loss,
                -each.epoch,
            ),
        )
    )


def _retraining(
    store: ArtifactStore,
    family: ModelFamily | None,
    estimator: Estimator,
    name: str,
    dataset: str,
    epochs: int,
    trained: int,
) -> Retraining:
    if family is None:
        return Retraining(epochs, trained, unknown=f"no YAML here declares the family {name}")

    try:
        made = estimator.estimate(store, Training.newest(store, family, dataset), epochs=epochs)
    except DollyError as error:
        return Retraining(epochs, trained, unknown=one_line(error))
    return Retraining(epochs, trained, made.plan.hours, made.plan.cost_usd)
