"""Whether published models carry the template that their data was laid out in, as asset checks.

A training evaluates each checkpoint when it is published, since Dagster skips the checks of assets
that are materialized while a step runs; the checks can also be run again on their own.
"""

from collections.abc import Iterator
from typing import Any, cast

import dagster as dg

from dolly_assets.core.markdown import inline
from dolly_assets.dagster_support.partitions import dataset_epochs, epochs_by_dataset, partition_of
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import BASE_MODEL, MODEL_CHECKPOINT
from dolly_assets.registry.published_templates import template_problems
from dolly_assets.registry.queries import latest, required
from dolly_assets.storage.artifact import Artifact, ArtifactStore

CHECK = "published_template"
_DESCRIPTION = "Servers prompt the model with the template and stop tokens that it is trained with."


def build_base_model_template_check(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the check of `FAMILY/base_model`."""
    key = dg.AssetKey(BASE_MODEL.key(family.name))

    @dg.asset_check(asset=key, name=CHECK, description=_DESCRIPTION)
    def published_template(store: StoreResource) -> dg.AssetCheckResult:
        artifacts = store.open()
        found = template_problems(artifacts, required(artifacts, BASE_MODEL.address(family.name)))
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.ERROR,
            description=_description(found),
        )

    return published_template


def build_checkpoint_template_check(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the check of `FAMILY/model_checkpoint`."""
    key = dg.AssetKey(MODEL_CHECKPOINT.key(family.name))
    partitions = dataset_epochs(family)

    @dg.multi_asset_check(
        name=f"{family.name}__model_checkpoint_template",
        specs=[
            dg.AssetCheckSpec(CHECK, asset=key, description=_DESCRIPTION, partitions_def=partitions)
        ],
        description=_DESCRIPTION,
    )
    def checkpoint_template(
        context: dg.AssetCheckExecutionContext, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        artifacts, run = store.open(), context.op_execution_context
        for dataset, epochs in epochs_by_dataset(run.partition_keys).items():
            for epoch in epochs:
                address = MODEL_CHECKPOINT.address(family.name, dataset, epoch)
                if checkpoint := latest(artifacts, address):
                    log_template_evaluation(run, artifacts, checkpoint)
        yield from ()

    return checkpoint_template


def log_template_evaluation(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    store: ArtifactStore,
    checkpoint: Artifact,
) -> None:
    """Log the evaluation of a checkpoint's check to Dagster."""
    found = template_problems(store, checkpoint)
    address = ArtifactAddress.parse(checkpoint.name)
    evaluation = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(address.asset_key),
        check_name=CHECK,
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_description(found),
        partition=partition_of(address),
    )
    context.log_event(cast(Any, evaluation))  # its type hint lacks what it takes


def _description(found: list[str]) -> str:
    return inline("; ".join(found) or "the same template and stop tokens")
