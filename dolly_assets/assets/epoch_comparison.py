"""epoch_comparison: one table across the epochs of a training, with the base model as epoch 0."""

import json
import tempfile
from pathlib import Path

import dagster as dg

from dolly_assets.core.errors import ArtifactError
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.report_links import linked_report
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.dagster_support.run_context import made_by
from dolly_assets.family import ModelFamily
from dolly_assets.generation import comparison
from dolly_assets.generation.comparison import EpochRow, Measure, WinRate
from dolly_assets.generation.comparison_page import page
from dolly_assets.generation.prompt import Prompt
from dolly_assets.registry.attributes import (
    CheckpointAttributes,
    ComparisonAttributes,
    EvaluationAttributes,
    JudgementAttributes,
)
from dolly_assets.registry.kinds import EPOCH_COMPARISON, JUDGEMENT, SUITE_SCORES
from dolly_assets.registry.lineage import Lineage
from dolly_assets.registry.queries import ScoredEpoch, comparison_inputs, scored_epochs
from dolly_assets.registry.record_losses import has_losses, standing_out
from dolly_assets.registry.suite_scores import suites_in
from dolly_assets.scoring.examples import SCORES_FILE, Score, by_category
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.conventions import PICTURE_FILE
from dolly_assets.suites.results import changes


def build_epoch_comparison(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/epoch_comparison`, by dataset."""
    optional = [SUITE_SCORES.key(family.name)] if family.evaluation.suites else []
    optional += [JUDGEMENT.key(family.name)] if family.evaluation.judge else []

    @dg.asset(
        key=EPOCH_COMPARISON.key(family.name),
        deps=[*EPOCH_COMPARISON.input_keys(family.name), *optional],
        partitions_def=DATASETS,
        group_name=family.name,
        kinds={"altair"},
        description="Scores and sample responses of all epochs, side by side.",
        code_version=EPOCH_COMPARISON.code_version(family),
    )
    def epoch_comparison(context: dg.AssetExecutionContext, store: StoreResource) -> Artifact:
        artifacts, dataset = store.open(), context.partition_key
        epochs = scored_epochs(artifacts, family, dataset)
        if not epochs:
            raise ArtifactError(
                f"no epoch of {family.name} on {dataset} is in the store: train some first"
            )
        rows = [_row(epoch, epochs[epoch], epochs.get(0)) for epoch in sorted(epochs)]
        best, trend = comparison.best_epoch(rows), comparison.trend_of(rows)
        newest = CheckpointAttributes.of(epochs[max(epochs)].checkpoint)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            title = f"{family.name} on {dataset}"
            document = json.dumps([row.as_json() for row in rows], indent=1, ensure_ascii=False)
            (out / "comparison.json").write_text(document, encoding="utf-8")
            (out / EPOCH_COMPARISON.page).write_text(page(title, rows), encoding="utf-8")
            (out / PICTURE_FILE).write_bytes(comparison.picture(rows))
            artifact = artifacts.publish(
                EPOCH_COMPARISON.address(family.name, dataset).name,
                out,
                kind=EPOCH_COMPARISON.name,
                descriptions=EPOCH_COMPARISON.descriptions,
                inputs=comparison_inputs(epochs),
                attributes=ComparisonAttributes(
                    scores_markdown=comparison.scores_markdown(rows),
                    categories_markdown=comparison.categories_markdown(rows),
                    suites_markdown=comparison.suites_markdown(rows),
                    judge_markdown=comparison.judge_markdown(rows),
                    responses_markdown=comparison.responses_markdown(rows),
                    records_markdown=_records(artifacts, epochs[max(epochs)].checkpoint),
                    epochs=len(rows),
                    best_epoch=best.epoch if best else None,
                    length_trend=trend.sentence if trend else None,
                    length_trend_p=trend.p_value if trend else None,
                    licenses=newest.licenses,
                    commercial_use=newest.commercial_use,
                    obligations=newest.obligations,
                ).as_json(),
                made_by=made_by(context),
            )
        context.add_output_metadata(linked_report(artifact))
        return artifact

    return epoch_comparison


def _row(epoch: int, scored: ScoredEpoch, base: ScoredEpoch | None) -> EpochRow:
    trained = CheckpointAttributes.of(scored.checkpoint)
    scores = (
        EvaluationAttributes.of(scored.evaluation) if scored.evaluation else EvaluationAttributes()
    )
    return EpochRow(
        epoch=epoch,
        training_loss=trained.loss,
        held_out_loss=scores.held_out_loss,
        perplexity=scores.perplexity,
        exact_match=scores.exact_match,
        tokens_per_second=trained.tokens_per_second,
        training_seconds=trained.training_seconds,
        responses=_responses(scored.sample_responses),
        held_out_loss_interval=scores.held_out_loss_interval,
        exact_match_interval=scores.exact_match_interval,
        memorization=scores.memorization,
        memorization_interval=scores.memorization_interval,
        categories=_categories(scored.evaluation),
        suites=_measures(scored.suite_scores, base.suite_scores if base else None),
        win_rate=_win_rate(scored.judgement) if scored.judgement else None,
    )


def _categories(evaluation: Artifact | None) -> dict[str, Measure]:
    """Return the scores by category; none if an earlier version scored it."""
    if evaluation is None or not evaluation.holds(SCORES_FILE):
        return {}
    found = by_category(evaluation.read_table(SCORES_FILE))
    return {name: Measure(score.value, score.interval) for name, score in found.items()}


def _win_rate(judgement: Artifact) -> WinRate:
    found = JudgementAttributes.of(judgement)
    return WinRate(
        found.win_rate,
        found.win_rate_interval,
        (found.wins, found.losses, found.ties),
        found.order_agreement,
    )


def _measures(scores: Artifact | None, base: Artifact | None) -> dict[str, Measure]:
    """Return the scores on suites, with what has changed since the base model."""
    found: dict[str, Measure] = {}
    of_base = suites_in(base) if base else {}
    for name, scored in (suites_in(scores) if scores else {}).items():
        is_other = base is not None and base is not scores and name in of_base
        changed = changes(scored.table(), of_base[name].table()) if is_other else {}
        score = scored.score
        for title, key, value, interval in (
            (name, "score", score.score, score.score_interval),
            (
                f"{name}, bits per byte",
                "bits_per_byte",
                score.bits_per_byte,
                score.bits_per_byte_interval,
            ),
        ):
            if value is not None:
                change = changed.get(key, Score(None))
                found[title] = Measure(value, interval, change.value, change.interval)
    return found


def _records(store: ArtifactStore, checkpoint: Artifact) -> str | None:
    """Return the table of the records that stand out; None without losses of records."""
    lineage = Lineage(store, checkpoint)
    return standing_out(lineage).markdown() if has_losses(lineage) else None


def _responses(samples: Artifact | None) -> dict[Prompt, str]:
    """Return the answers of an epoch by prompt; none if it was not sampled."""
    document = json.loads(samples.read_bytes("responses.json")) if samples else []
    return {
        Prompt.model_validate({key: value for key, value in each.items() if key != "response"}): (
            each["response"]
        )
        for each in document
    }
