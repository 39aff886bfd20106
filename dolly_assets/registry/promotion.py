"""Changes of the models in stages: promotions, rollbacks, and what a rule decided.

Whoever changes a stage holds the store's lock from reading it to the one put that publishes the
change: of two at once the second sees what the first did, and a killed one has changed nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dolly_assets.core.errors import ArtifactError
from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import (
    ChampionAttributes,
    CheckpointAttributes,
    EvaluationAttributes,
)
from dolly_assets.registry.gates import failed_gates
from dolly_assets.registry.inputs import as_inputs, input_digest, required_digest
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    CHAMPION_MODEL,
    EPOCH_COMPARISON,
    MODEL_CHECKPOINT,
    TOKENIZED_DATASET,
)
from dolly_assets.registry.queries import latest, required
from dolly_assets.registry.stages import (
    STAGES,
    Stage,
    changes,
    checkpoint_of,
    evaluation_of,
    model_in,
    name_of,
    withdrawn_from,
)
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.manifest import FileEntry

_CARRIED = (
    "epoch",
    "training",
    "weights_sha256",
    "licenses",
    "commercial_use",
    "obligations",
    "template",
    "template_digest",
)
_DECISION = {
    "verdict",
    "reason",
    "decided_by",
    "withdrawn",
    "decision_markdown",
    "gain",
    "p_value",
    "settings",
    "candidate_epoch",
    "candidate_exact_match",
    "candidate_held_out_loss",
}


@dataclass(frozen=True)
class Author:
    """Who changes a stage, and why.

    Attributes:
        name: The user.
        reason: The reason, as the user states it; may be empty.
        made_by: What the manifest records of the process.
    """

    name: str
    reason: str = ""
    made_by: Mapping[str, str] = field(default_factory=dict)

    def sentence(self, model: str, what: str) -> str:
        """Return what happened to a model, by whom and why."""
        return f"{model} is {what} by {self.name}{f': {self.reason}' if self.reason else ''}"


def promote(
    store: ArtifactStore,
    family: ModelFamily,
    dataset: str,
    *,
    to: Stage,
    author: Author,
    epoch: int | None = None,
) -> Artifact:
    """Bring a model into a stage, whatever it scored, if it passes the gates of the family's rule.

    Args:
        store: Where the models are.
        family: Their family.
        dataset: The dataset that they were trained on.
        to: The stage.
        author: Who promotes it.
        epoch: The newest checkpoint of this epoch. Without one, the model of the stage below.

    Raises:
        ArtifactError: There is no such model, it is in the stage already, or a gate refuses it.
    """
    with store.deciding() as lease:
        model = _to_promote(store, family.name, dataset, to, epoch)
        current = model_in(store, family.name, dataset, to)
        if current and checkpoint_of(current) == checkpoint_of(model):
            raise ArtifactError(f"{name_of(model)} of {family.name}/{dataset} is in {to} already")
        scores = evaluation_of(store, family.name, dataset, model)
        if failed := failed_gates(store, family, model, scores):
            raise ArtifactError(
                f"{name_of(model)} of {family.name}/{dataset} may not be promoted: "
                f"{'; '.join(failed)}"
            )
        withdrawn = [each for each in withdrawn_from(current) if each != checkpoint_of(model)]
        decided = {
            "verdict": "promoted",
            "reason": author.sentence(name_of(model), f"promoted to {to}"),
            "decided_by": author.name,
            "withdrawn": withdrawn,
            **(_scores(scores) if scores else {}),
        }
        lease.check()
        return place(store, family.name, dataset, to, model, decided, author.made_by)


def roll_back(
    store: ArtifactStore, family: str, dataset: str, *, stage: Stage, author: Author
) -> Artifact:
    """Bring the model back into a stage that was there before, and withdraw the present one.

    A rule does not promote what was withdrawn; a person can.

    Raises:
        ArtifactError: There was no other model in the stage, or its weights were deleted.
    """
    with store.deciding() as lease:
        found = changes(store, family, dataset, stage)
        if not found:
            raise ArtifactError(f"{family}/{dataset} has no model in {stage}")
        withdrawn = sorted({*withdrawn_from(found[0]), checkpoint_of(found[0])})
        former = next((each for each in found if checkpoint_of(each) not in withdrawn), None)
        if former is None:
            raise ArtifactError(
                f"{family}/{dataset} has no model in {stage} before {name_of(found[0])} that was "
                f"not withdrawn: promote another one with dolly promote {family}/{dataset}/EPOCH"
            )
        if not former.is_complete():
            raise ArtifactError(
                f"{name_of(former)} was in {stage} before, but garbage collection deleted files of "
                "it: promote another one"
            )
        what = f"back in {stage} instead of {name_of(found[0])}"
        decided = {
            "verdict": "rolled back",
            "reason": author.sentence(name_of(former), what),
            "decided_by": author.name,
            "withdrawn": withdrawn,
        }
        lease.check()
        return place(store, family, dataset, stage, former, decided, author.made_by)


def place(
    store: ArtifactStore,
    family: str,
    dataset: str,
    stage: Stage,
    model: Artifact,
    decided: Mapping[str, object],
    made_by: Mapping[str, str],
    *,
    comparison: Artifact | None = None,
    beside: Sequence[FileEntry] = (),
) -> Artifact:
    """Publish a model as the one in a stage, under the store's lock.

    Its files are referred to and not sent; training state and former decisions are left out.

    Args:
        store: Where to publish.
        family: The family.
        dataset: The dataset.
        stage: The stage.
        model: A checkpoint, or a model that is or was in a stage.
        decided: Attributes that state the decision; the others are those of the model.
        made_by: What the manifest records of the process.
        comparison: What the decision was made on; without one, what the last one was made on.
        beside: Uploaded files that describe the decision.
    """
    kind, stated = STAGES[stage], _stated(model)
    checkpoint = MODEL_CHECKPOINT.address(family, dataset, stated.epoch).name
    return store.commit(
        kind.address(family, dataset).name,
        [*_kept_files(model), *beside],
        kind=kind.name,
        inputs={
            **{
                each.address(family, dataset).name: required_digest(model, each)
                for each in (BASE_MODEL, TOKENIZED_DATASET)
            },
            checkpoint: stated.checkpoint,
            **(as_inputs(comparison) if comparison else _last_comparison(store, family, dataset)),
        },
        attributes=stated.model_copy(update=dict(decided)).as_json(),
        made_by=made_by,
    )


def _to_promote(
    store: ArtifactStore, family: str, dataset: str, to: Stage, epoch: int | None
) -> Artifact:
    if epoch is not None:
        return required(store, MODEL_CHECKPOINT.address(family, dataset, epoch))
    order: list[Stage] = [*STAGES]
    below = order[: order.index(to)]
    for stage in reversed(below):
        if found := model_in(store, family, dataset, stage):
            return found
    where = f"neither in {' nor in '.join(below)}" if len(below) > 1 else "not in candidate"
    raise ArtifactError(
        f"{family}/{dataset} has no model to promote to {to}: one is {where}; name an epoch, as "
        f"{family}/{dataset}/EPOCH"
    )


def _stated(model: Artifact) -> ChampionAttributes:
    """Return what a stage states of a model, apart from the decision."""
    if model.manifest.kind != MODEL_CHECKPOINT.name:
        carried = ChampionAttributes.of(model).model_dump(exclude_unset=True, exclude=_DECISION)
        return ChampionAttributes.model_validate(carried)
    carried = CheckpointAttributes.of(model).model_dump(include=set(_CARRIED), exclude_unset=True)
    return ChampionAttributes.model_validate({**carried, "checkpoint": model.digest})


def _last_comparison(store: ArtifactStore, family: str, dataset: str) -> dict[str, str]:
    """Return the comparison that challenged the champion last, so that it counts as challenged."""
    champion = latest(store, CHAMPION_MODEL.address(family, dataset))
    digest = input_digest(champion, EPOCH_COMPARISON) if champion else None
    return {EPOCH_COMPARISON.address(family, dataset).name: digest} if digest else {}


def _scores(evaluation: Artifact) -> dict[str, float | None]:
    scores = EvaluationAttributes.of(evaluation)
    return {"exact_match": scores.exact_match, "held_out_loss": scores.held_out_loss}


def _kept_files(model: Artifact) -> list[FileEntry]:
    former = CHAMPION_MODEL.descriptions
    return [
        entry
        for entry in model.manifest.files
        if not entry.path.startswith("state/") and entry.path not in former
    ]
