"""The warnings of a profile, as asset checks of `gpu_profile`: one evaluation per epoch of a run.

A check evaluates what a report found, and so the limits that held when it was built. Without a
device to check there is no evaluation, neither passed nor failed.
"""

from collections.abc import Iterator

import dagster as dg

from dolly_assets.assets.epoch_checks import build_epoch_checks
from dolly_assets.core.markdown import inline
from dolly_assets.dagster_support.partitions import partition_of
from dolly_assets.family import ModelFamily
from dolly_assets.profiling.analysis.finding import Check
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import GPU_PROFILE
from dolly_assets.registry.profiles import summary_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore

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
    return build_epoch_checks(
        family,
        GPU_PROFILE,
        {**CHECKS},
        profile_evaluations,
        name=f"{family.name}__gpu_profile_health",
        description="Findings in an epoch's profile, and what to do about them.",
    )


def profile_evaluations(
    store: ArtifactStore, profile: Artifact
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the evaluations of a profile's checks."""
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
