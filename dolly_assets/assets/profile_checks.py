"""The warnings of a profile, as asset checks of `gpu_profile`: one evaluation per epoch of a run.

A check evaluates what a report found, and so the limits that held when it was built. Without a
device to check there is no evaluation, neither passed nor failed. A training evaluates each profile
when it is published, since Dagster skips the checks of assets that are materialized while a step
runs; the checks can also be run again on their own.
"""

from collections.abc import Iterator
from typing import Any, cast

import dagster as dg

from dolly_assets.core.markdown import inline
from dolly_assets.dagster_support.partitions import dataset_epochs, epochs_by_dataset, partition_of
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.family import ModelFamily
from dolly_assets.profiling.analysis.finding import Check
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import GPU_PROFILE
from dolly_assets.registry.profiles import summary_of
from dolly_assets.registry.queries import latest
from dolly_assets.storage.artifact import Artifact

CHECKS: dict[Check, str] = {
    "gpu_idle": "No GPU is idle for long.",
    "thermal_throttling": "No GPU is slowed down by heat.",
    "gpu_errors": "No GPU was lost, hung, or had ECC or Xid errors.",
    "memory_nearly_full": "Neither a GPU's memory nor the host's was nearly full.",
    "straggler": "No rank or GPU keeps the others waiting.",
}
OF_ANY_DEVICE: tuple[Check, ...] = ("memory_nearly_full", "straggler")  # the others need GPUs


def build_profile_checks(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the checks of `FAMILY/gpu_profile`, in one step."""
    key = dg.AssetKey(GPU_PROFILE.key(family.name))
    partitions = dataset_epochs(family)

    @dg.multi_asset_check(
        name=f"{family.name}__gpu_profile_health",
        specs=[
            dg.AssetCheckSpec(name, asset=key, description=text, partitions_def=partitions)
            for name, text in CHECKS.items()
        ],
        description="Findings in an epoch's profile, and what to do about them.",
        can_subset=True,
    )
    def profile_health(
        context: dg.AssetCheckExecutionContext, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        artifacts, run = store.open(), context.op_execution_context
        for dataset, epochs in epochs_by_dataset(run.partition_keys).items():
            for epoch in epochs:
                profile = latest(artifacts, GPU_PROFILE.address(family.name, dataset, epoch))
                if profile:
                    log_evaluations(run, profile)
        yield from ()

    return profile_health


def log_evaluations(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, profile: Artifact
) -> None:
    """Log the evaluations of a profile's checks to Dagster."""
    for evaluation in _evaluations(profile):
        context.log_event(cast(Any, evaluation))  # its type hint lacks what it takes


def _evaluations(profile: Artifact) -> Iterator[dg.AssetCheckEvaluation]:
    if not profile.holds(SUMMARY_FILE):
        return  # the report could not be built
    summary = summary_of(profile)
    if not summary.samples_count:
        return
    address = ArtifactAddress.parse(profile.name)
    for check in CHECKS:
        found = [finding for finding in summary.findings if finding.check == check]
        if not found and summary.device_kind == "cpu" and check not in OF_ANY_DEVICE:
            continue
        yield dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(address.asset_key),
            check_name=check,
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description=inline(
                " ".join(f"{finding.text}. {finding.advice}" for finding in found)
                or "nothing found"
            ),
            partition=partition_of(address),
        )
