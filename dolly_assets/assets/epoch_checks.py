"""Checks of what every epoch publishes, which two steps evaluate.

A training logs the evaluation of each epoch when it is published, since Dagster skips the checks of
assets that are materialized while a step runs; the checks can also be run again on their own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import dagster as dg

from dolly_assets.dagster_support.partitions import dataset_epochs, epochs_by_dataset
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.kinds import AssetKind
from dolly_assets.registry.queries import latest
from dolly_assets.storage.artifact import Artifact, ArtifactStore

Context = dg.OpExecutionContext | dg.AssetExecutionContext
Evaluations = Callable[[ArtifactStore, Artifact], Iterable[dg.AssetCheckEvaluation]]


def build_epoch_checks(
    family: ModelFamily,
    kind: AssetKind,
    checks: Mapping[str, str],
    evaluations: Evaluations,
    *,
    name: str,
    description: str,
) -> dg.AssetChecksDefinition:
    """Return the checks of a kind of artifact that each epoch has, in one step.

    Args:
        family: The family.
        kind: The kind.
        checks: Name -> description.
        evaluations: Returns the evaluations of one artifact.
        name: Name of the step.
        description: Description of the step.
    """
    key = dg.AssetKey(kind.key(family.name))
    partitions = dataset_epochs(family)

    @dg.multi_asset_check(
        name=name,
        specs=[
            dg.AssetCheckSpec(check, asset=key, description=text, partitions_def=partitions)
            for check, text in checks.items()
        ],
        description=description,
        can_subset=len(checks) > 1,
    )
    def checks_by_epoch(
        context: dg.AssetCheckExecutionContext, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        artifacts, run = store.open(), context.op_execution_context
        for dataset, epochs in epochs_by_dataset(run.partition_keys).items():
            for epoch in epochs:
                if artifact := latest(artifacts, kind.address(family.name, dataset, epoch)):
                    log_evaluations(run, evaluations(artifacts, artifact))
        yield from ()

    return checks_by_epoch


def log_evaluations(context: Context, evaluations: Iterable[dg.AssetCheckEvaluation]) -> None:
    """Log evaluations of checks to Dagster."""
    for evaluation in evaluations:
        context.log_event(cast(Any, evaluation))  # its type hint lacks what it takes
