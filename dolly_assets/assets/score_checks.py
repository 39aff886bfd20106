"""Checks of scores, as asset checks of `evaluation`, by epoch, and of `champion_model`.

They warn of a loss that is not finite, of an epoch that is worse than the base model or than the
epoch before, and of overfitting. What cannot be compared is neither passed nor failed.
"""

from collections.abc import Iterator

import dagster as dg

from dolly_assets.assets.epoch_checks import build_epoch_checks
from dolly_assets.core.markdown import inline
from dolly_assets.dagster_support.partitions import DATASETS, partition_of
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import (
    ChampionAttributes,
    CheckpointAttributes,
    EvaluationAttributes,
)
from dolly_assets.registry.kinds import CHAMPION_MODEL, EVALUATION
from dolly_assets.registry.queries import ScoredEpoch, required, scored_epochs
from dolly_assets.registry.stages import evaluation_of, name_of
from dolly_assets.scoring.contender import Contender
from dolly_assets.scoring.examples import SCORES_FILE
from dolly_assets.scoring.regressions import Comparison, compare, overfitting
from dolly_assets.storage.artifact import Artifact, ArtifactStore

FINITE, BASE, BEFORE, OVERFITTING = (
    "finite_loss",
    "not_worse_than_base",
    "not_worse_than_epoch_before",
    "no_overfitting",
)
CHECKS = {
    FINITE: "The held-out loss is finite.",
    BASE: "The epoch is not worse than the base model.",
    BEFORE: "The epoch is not worse than the one before.",
    OVERFITTING: "The held-out loss has not turned while the training loss still falls.",
}
CHAMPION_CHECKS = {
    FINITE: "The champion's held-out loss is finite.",
    BASE: "The champion is not worse than the base model.",
}


def build_evaluation_checks(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the checks of `FAMILY/evaluation`, in one step."""
    return build_epoch_checks(
        family,
        EVALUATION,
        CHECKS,
        lambda store, evaluation: score_evaluations(store, family, evaluation),
        name=f"{family.name}__evaluation_scores",
        description="Whether an epoch's scores are sound, compared with those of other epochs.",
    )


def build_champion_checks(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the checks of `FAMILY/champion_model`, in one step."""
    key = dg.AssetKey(CHAMPION_MODEL.key(family.name))

    @dg.multi_asset_check(
        name=f"{family.name}__champion_scores",
        specs=[
            dg.AssetCheckSpec(check, asset=key, description=text, partitions_def=DATASETS)
            for check, text in CHAMPION_CHECKS.items()
        ],
        description="Whether the champion's scores are sound, compared with the base model's.",
        can_subset=True,  # a check is left out where nothing can be compared
    )
    def champion_checks(
        context: dg.AssetCheckExecutionContext, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        artifacts, dataset = store.open(), context.partition_key
        for check, found in _of_champion(artifacts, family, dataset):
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=check,
                passed=not found.is_worse,
                severity=dg.AssetCheckSeverity.WARN,
                description=inline(found.sentence),
            )

    return champion_checks


def score_evaluations(
    store: ArtifactStore, family: ModelFamily, evaluation: Artifact
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the evaluations of the checks of an epoch's scores."""
    address = ArtifactAddress.parse(evaluation.name)
    for check, found in _of_epoch(store, family, evaluation):
        yield dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(address.asset_key),
            check_name=check,
            passed=not found.is_worse,
            severity=dg.AssetCheckSeverity.WARN,
            description=inline(found.sentence),
            partition=partition_of(address),
        )


def _of_epoch(
    store: ArtifactStore, family: ModelFamily, evaluation: Artifact
) -> Iterator[tuple[str, Comparison]]:
    scores = EvaluationAttributes.of(evaluation)
    yield FINITE, _finite(scores.held_out_loss)
    address = ArtifactAddress.parse(evaluation.name)
    epoch, epochs = address.epoch or 0, scored_epochs(store, family, address.dataset)
    scored = epochs[epoch].evaluation if epoch in epochs else None
    if scored is None or scored.digest != evaluation.digest:
        return  # of another training, or scored by other settings
    contenders = {each: _contender(epochs[each]) for each in epochs if each <= epoch}
    score = family.champion.score_of(exact=scores.answers == "exact")
    for check, other in ((BASE, 0), (BEFORE, epoch - 1)):
        if epoch and other in contenders:
            found = compare(score, contenders[epoch], contenders[other])
            yield from [(check, found)] if found else ()
    losses = {each: CheckpointAttributes.of(epochs[each].checkpoint).loss for each in epochs}
    trained = {each: contender for each, contender in contenders.items() if each}
    if epoch and (found := overfitting(trained, losses, epoch)):
        yield OVERFITTING, found


def _of_champion(
    store: ArtifactStore, family: ModelFamily, dataset: str
) -> Iterator[tuple[str, Comparison]]:
    champion = required(store, CHAMPION_MODEL.address(family.name, dataset))
    yield FINITE, _finite(ChampionAttributes.of(champion).held_out_loss)
    evaluation = evaluation_of(store, family.name, dataset, champion)
    base = scored_epochs(store, family, dataset).get(0)
    if not evaluation or not base or not base.evaluation:
        return
    scores = EvaluationAttributes.of(evaluation)
    score = family.champion.score_of(exact=scores.answers == "exact")
    champion_scores = _of_evaluation("the champion", evaluation)
    if found := compare(score, champion_scores, _contender(base)):
        yield BASE, found


def _finite(loss: float | None) -> Comparison:
    if loss is None:
        return Comparison(is_worse=True, sentence="the held-out loss is not finite")
    return Comparison(is_worse=False, sentence=f"held-out loss {loss:.4f}")


def _contender(scored: ScoredEpoch) -> Contender:
    return _of_evaluation(name_of(scored.checkpoint), scored.evaluation)


def _of_evaluation(name: str, evaluation: Artifact | None) -> Contender:
    if evaluation is None or not evaluation.holds(SCORES_FILE):
        return Contender(name, "", None)
    return Contender(name, evaluation.digest, evaluation.read_table(SCORES_FILE))
