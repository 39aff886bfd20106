"""What is required of a model besides a better score, before it may be promoted.

Each gate reads what the store holds about the model: its licences, the quality reports of its data,
the profile of its epoch, its scores, what it remembers. What was not measured does not count
against a model, except scores.
"""

from collections.abc import Callable, Iterator, Mapping

from dolly_assets.core.errors import ArtifactError, LicenseError
from dolly_assets.datasets.licenses import Licensed, check_use
from dolly_assets.datasets.quality.report import refusal
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import (
    CheckpointAttributes,
    EvaluationAttributes,
    LicenseAttributes,
)
from dolly_assets.registry.inputs import required_digest
from dolly_assets.registry.kinds import GPU_PROFILE, TOKENIZED_DATASET
from dolly_assets.registry.profiles import readable_summary
from dolly_assets.registry.quality_reports import dataset_verdicts, raw_of, split_verdicts
from dolly_assets.registry.queries import history, training_of
from dolly_assets.scoring.memorization import exceeds
from dolly_assets.scoring.rule import TITLES, GateName
from dolly_assets.storage.artifact import Artifact, ArtifactStore

_HARMFUL = "gpu_errors"  # the finding that puts weights in doubt, not speed


def failed_gates(
    store: ArtifactStore, family: ModelFamily, model: Artifact, evaluation: Artifact | None
) -> list[str]:
    """Return why a model may not be promoted, one sentence for each gate that it fails.

    Args:
        store: Where the model is.
        family: Its family, whose rule names the gates.
        model: A checkpoint, or a model in a stage.
        evaluation: Its scores, if it has any.
    """
    return [
        sentence
        for name in family.champion.gates
        for sentence in _GATES[name](store, family, model, evaluation)
    ]


_Gate = Callable[[ArtifactStore, ModelFamily, Artifact, Artifact | None], Iterator[str]]


def _license(
    store: ArtifactStore, family: ModelFamily, model: Artifact, evaluation: Artifact | None
) -> Iterator[str]:
    stated = LicenseAttributes.of(model).licenses
    if stated is None:
        if family.use == "commercial":
            yield "its manifest states no licences, and the family has use: commercial"
        return
    try:
        check_use(family.use, [Licensed(asset, (), each) for asset, each in stated.items()])
    except LicenseError as error:
        yield str(error)


def _quality(
    store: ArtifactStore, family: ModelFamily, model: Artifact, evaluation: Artifact | None
) -> Iterator[str]:
    dataset = ArtifactAddress.parse(model.name).dataset
    name = TOKENIZED_DATASET.address(family.name, dataset).name
    try:
        tokenized = store.get(name, required_digest(model, TOKENIZED_DATASET))
        verdicts = [
            *dataset_verdicts(store, raw_of(store, tokenized)),
            *split_verdicts(store, family, tokenized),
        ]
    except ArtifactError as error:
        yield f"the quality of its data cannot be checked: {error}"
        return
    if why := refusal(verdicts, dataset):
        yield why


def _profile(
    store: ArtifactStore, family: ModelFamily, model: Artifact, evaluation: Artifact | None
) -> Iterator[str]:
    trained = CheckpointAttributes.of(model)
    dataset = ArtifactAddress.parse(model.name).dataset
    profiles = history(store, GPU_PROFILE.address(family.name, dataset, trained.epoch))
    of_it = next((each for each in profiles if training_of(each) == trained.training), None)
    summary = readable_summary(of_it) if of_it else None
    for finding in summary.findings if summary else ():
        if finding.check == _HARMFUL:
            yield f"its epoch's profile reports: {finding.text}"


def _interval(
    store: ArtifactStore, family: ModelFamily, model: Artifact, evaluation: Artifact | None
) -> Iterator[str]:
    if evaluation is None:
        yield "it has no scores: materialize evaluation"
        return
    scores = EvaluationAttributes.of(evaluation)
    score = family.champion.score_of(exact=scores.answers == "exact")
    if getattr(scores, f"{score}_interval") is None:
        yield (
            f"its {TITLES[score]} has no interval: it is not finite, or of fewer than two examples"
        )


def _memorization(
    store: ArtifactStore, family: ModelFamily, model: Artifact, evaluation: Artifact | None
) -> Iterator[str]:
    scores = EvaluationAttributes.of(evaluation) if evaluation else EvaluationAttributes()
    if scores.memorization is None:
        return
    limit = family.champion.memorization_limit
    if why := exceeds(scores.memorization, scores.memorization_interval, limit):
        yield why


_GATES: Mapping[GateName, _Gate] = {
    "license": _license,
    "quality": _quality,
    "profile": _profile,
    "interval": _interval,
    "memorization": _memorization,
}
