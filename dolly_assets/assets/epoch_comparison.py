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
from dolly_assets.generation.comparison import EpochRow
from dolly_assets.generation.prompt import Prompt
from dolly_assets.registry.attributes import (
    CheckpointAttributes,
    ComparisonAttributes,
    EvaluationAttributes,
)
from dolly_assets.registry.kinds import EPOCH_COMPARISON
from dolly_assets.registry.queries import ScoredEpoch, comparison_inputs, scored_epochs
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.conventions import PICTURE_FILE


def build_epoch_comparison(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/epoch_comparison`, by dataset."""

    @dg.asset(
        key=EPOCH_COMPARISON.key(family.name),
        deps=EPOCH_COMPARISON.input_keys(family.name),
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
        rows = [_row(epoch, epochs[epoch]) for epoch in sorted(epochs)]
        best = comparison.best_epoch(rows)
        newest = CheckpointAttributes.of(epochs[max(epochs)].checkpoint)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            title = f"{family.name} on {dataset}"
            document = json.dumps([row.as_json() for row in rows], indent=1, ensure_ascii=False)
            (out / "comparison.json").write_text(document, encoding="utf-8")
            (out / EPOCH_COMPARISON.page).write_text(comparison.page(title, rows), encoding="utf-8")
            (out / PICTURE_FILE).write_bytes(comparison.picture(rows))
            artifact = artifacts.publish(
                EPOCH_COMPARISON.address(family.name, dataset).name,
                out,
                kind=EPOCH_COMPARISON.name,
                descriptions=EPOCH_COMPARISON.descriptions,
                inputs=comparison_inputs(epochs),
                attributes=ComparisonAttributes(
                    scores_markdown=comparison.scores_markdown(rows),
                    responses_markdown=comparison.responses_markdown(rows),
                    epochs=len(rows),
                    best_epoch=best.epoch if best else None,
                    licenses=newest.licenses,
                    commercial_use=newest.commercial_use,
                    obligations=newest.obligations,
                ).as_json(),
                made_by=made_by(context),
            )
        context.add_output_metadata(linked_report(artifact))
        return artifact

    return epoch_comparison


def _row(epoch: int, scored: ScoredEpoch) -> EpochRow:
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
    )


def _responses(samples: Artifact | None) -> dict[Prompt, str]:
    """Return the answers of an epoch by prompt; none if it was not sampled."""
    document = json.loads(samples.read_bytes("responses.json")) if samples else []
    return {
        Prompt.model_validate({key: value for key, value in each.items() if key != "response"}): (
            each["response"]
        )
        for each in document
    }
