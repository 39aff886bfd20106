"""epoch_comparison: one table across the epochs of a training, the untrained base as epoch 0."""

import json
import tempfile
from pathlib import Path
from typing import Any

import dagster as dg

from dolly_assets.core.errors import ArtifactError
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource, made_by
from dolly_assets.datasets.licenses import LICENSE_ATTRIBUTES
from dolly_assets.family import ModelFamily
from dolly_assets.generation import comparison
from dolly_assets.generation.comparison import EpochRow
from dolly_assets.generation.sample import Prompt
from dolly_assets.registry.attributes import CheckpointAttributes, EvaluationAttributes
from dolly_assets.registry.kinds import (
    EPOCH_COMPARISON,
    EVALUATION,
    MODEL_CHECKPOINT,
    SAMPLE_RESPONSES,
    AssetKind,
)
from dolly_assets.registry.queries import latest
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.conventions import PICTURE_FILE


def build_epoch_comparison(family: ModelFamily) -> dg.AssetsDefinition:
    """The asset `FAMILY/epoch_comparison`, by dataset."""

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
        epochs = newest_training(artifacts, family, dataset)
        if not epochs:
            raise ArtifactError(
                f"no epoch of {family.name} on {dataset} is in the store: train some first"
            )
        scores = {
            epoch: scores_of(artifacts, family, dataset, epoch, item)
            for epoch, item in epochs.items()
        }
        rows = [_row(epoch, epochs[epoch], scores[epoch]) for epoch in sorted(epochs)]
        best = comparison.best_epoch(rows)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            title = f"{family.name} on {dataset}"
            (out / "comparison.html").write_text(comparison.page(title, rows), encoding="utf-8")
            (out / PICTURE_FILE).write_bytes(comparison.picture(rows))
            return artifacts.publish(
                EPOCH_COMPARISON.address(family.name, dataset).name,
                out,
                kind=EPOCH_COMPARISON.name,
                inputs=comparison_inputs(epochs, scores),
                attributes={
                    "scores_markdown": comparison.scores_markdown(rows),
                    "responses_markdown": comparison.responses_markdown(rows),
                    "epochs": len(rows),
                    "best_epoch": best.epoch if best else None,
                    **_license_attributes(epochs[max(epochs)]),
                },
                made_by=made_by(context),
            )

    return epoch_comparison


def newest_training(
    store: ArtifactStore,
    family: ModelFamily,
    dataset: str,
    kind: AssetKind = MODEL_CHECKPOINT,
    first_epoch: int = 0,
) -> dict[int, Artifact]:
    """An asset's artifacts of the training that published one last, by epoch; other trainings' are left out."""
    newest = {}
    for epoch in range(first_epoch, family.recipe.epochs + 1):
        artifact = latest(store, kind.address(family.name, dataset, epoch))
        if artifact:
            newest[epoch] = artifact
    if not newest:
        return {}
    training = max(newest.values(), key=lambda item: item.manifest.created_at).manifest.attributes[
        "training"
    ]
    return {
        epoch: item
        for epoch, item in newest.items()
        if item.manifest.attributes["training"] == training
    }


def scores_of(
    store: ArtifactStore, family: ModelFamily, dataset: str, epoch: int, checkpoint: Artifact
) -> dict[str, Artifact]:
    """The evaluation and sample responses of this very checkpoint with the family's settings, as far as they exist."""
    found = {}
    for kind in (EVALUATION, SAMPLE_RESPONSES):
        artifact = latest(store, kind.address(family.name, dataset, epoch))
        if artifact and is_score_of(artifact, checkpoint, kind.code_version(family)):
            found[kind.name] = artifact
    return found


def is_score_of(artifact: Artifact, checkpoint: Artifact, settings: str) -> bool:
    """Whether an evaluation or sample responses are of this very checkpoint, made with these settings."""
    inputs, attributes = artifact.manifest.inputs, artifact.manifest.attributes
    return (
        inputs["model_checkpoint"] == checkpoint.digest and attributes.get("settings") == settings
    )


def comparison_inputs(
    epochs: dict[int, Artifact], scores: dict[int, dict[str, Artifact]]
) -> dict[str, str]:
    """Everything that the table shows, by name -> digest."""
    shown = [*epochs.values(), *(item for found in scores.values() for item in found.values())]
    return {item.name: item.digest for item in shown}


def _license_attributes(checkpoint: Artifact) -> dict[str, Any]:
    """What the training's licences ask for; checkpoints of before they were recorded say nothing."""
    return {name: checkpoint.manifest.attributes.get(name) for name in LICENSE_ATTRIBUTES}


def _row(epoch: int, checkpoint: Artifact, scores: dict[str, Artifact]) -> EpochRow:
    trained = CheckpointAttributes.of(checkpoint)
    scored = (
        EvaluationAttributes.of(scores["evaluation"])
        if "evaluation" in scores
        else EvaluationAttributes()
    )
    responses = (
        json.loads(scores["sample_responses"].read_bytes("responses.json"))
        if "sample_responses" in scores
        else []
    )
    return EpochRow(
        epoch=epoch,
        training_loss=trained.loss,
        held_out_loss=scored.held_out_loss,
        perplexity=scored.perplexity,
        exact_match=scored.exact_match,
        tokens_per_second=trained.tokens_per_second,
        training_seconds=trained.training_seconds,
        responses={
            Prompt(instruction=each["instruction"], context=each["context"]): each["response"]
            for each in responses
        },
    )
