"""What the store knows of a model: scores with their intervals, licences, lineage, template.

It knows artifacts, and no page.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.text import date_and_time
from dolly_assets.playground.client import ServedModel
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import EvaluationAttributes, SuiteScoresAttributes
from dolly_assets.registry.inputs import inputs_of
from dolly_assets.registry.kinds import BASE_MODEL, MODEL_CHECKPOINT, SUITE_SCORES
from dolly_assets.registry.lineage import Lineage, lineage_text
from dolly_assets.registry.published_templates import TEMPLATE_FILE
from dolly_assets.registry.queries import history
from dolly_assets.registry.stages import evaluation_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore

_SCORES = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "held_out_loss": "held-out loss",
    "perplexity": "perplexity",
    "calibration_error": "calibration error",
    "memorized": "reproduced training records",
}


class Score(NamedTuple):
    """A score, and its 95 % interval if it has one."""

    name: str
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Card:
    """What is known of a model.

    Attributes:
        address: Name and digest of the checkpoint.
        trained_at: When it was published.
        scores: On held-out examples, and on suites.
        licenses: Licence by what the model was made from.
        commercial_use: Whether they allow it.
        obligations: What they require.
        recipe: The hyper-parameters.
        lineage: What it was made from, as text.
        template_name: The chat template's name.
        template: Its text; empty where the model carries none.
    """

    address: str
    trained_at: str
    scores: tuple[Score, ...]
    licenses: Mapping[str, str]
    commercial_use: str
    obligations: tuple[str, ...]
    recipe: Mapping[str, Any]
    lineage: str
    template_name: str
    template: str


def card_of(store: ArtifactStore, model: ServedModel) -> Card:
    """Return what a store knows of a model.

    Raises:
        ArtifactError: The store does not have it, or not whole.
    """
    checkpoint = _checkpoint(store, model)
    found = Lineage(store, checkpoint)
    known = found.as_json()
    return Card(
        address=f"{checkpoint.name}@{checkpoint.digest}",
        trained_at=date_and_time(checkpoint.manifest.created_at.timestamp()),
        scores=(*_held_out(store, checkpoint), *_suites(store, checkpoint)),
        licenses=known["licenses"] or {},
        commercial_use=known["commercial_use"] or "unknown",
        obligations=tuple(known["obligations"] or ()),
        recipe=known["hyper_parameters"] or {},
        lineage=lineage_text(found),
        template_name=str(checkpoint.manifest.attributes.get("template", "dolly")),
        template=_template(found),
    )


def _checkpoint(store: ArtifactStore, model: ServedModel) -> Artifact:
    """Return the checkpoint of a model, which may be served as the model in a stage."""
    if not model.artifact or model.epoch is None:
        raise ArtifactError(f"{model.name}: its server does not state which artifact it is")
    at = ArtifactAddress.parse(model.artifact)
    return store.get(
        MODEL_CHECKPOINT.address(at.family, at.dataset, model.epoch).name, model.digest
    )


def _held_out(store: ArtifactStore, checkpoint: Artifact) -> Iterator[Score]:
    at = ArtifactAddress.parse(checkpoint.name)
    evaluation = evaluation_of(store, at.family, at.dataset, checkpoint)
    stated = EvaluationAttributes.of(evaluation).model_dump() if evaluation else {}
    for name, title in _SCORES.items():
        if stated.get(name) is not None:
            yield Score(title, stated[name], stated.get(f"{name}_interval"))


def _suites(store: ArtifactStore, checkpoint: Artifact) -> Iterator[Score]:
    at = ArtifactAddress.parse(checkpoint.name)
    for scored in history(store, SUITE_SCORES.address(at.family, at.dataset, at.epoch)):
        if inputs_of(scored).get(checkpoint.name) == checkpoint.digest:
            for name, suite in SuiteScoresAttributes.of(scored).suites.items():
                if suite.score is not None:
                    yield Score(f"suite {name}", suite.score, suite.score_interval)
            return


def _template(found: Lineage) -> str:
    """Return the template that the model carries, or the base model of an adapter."""
    for each in (found.artifact, found.of_kind(BASE_MODEL)):
        if each and each.holds(TEMPLATE_FILE):
            return each.read_bytes(TEMPLATE_FILE).decode()
    return ""
