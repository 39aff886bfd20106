"""Dagster's events, derived from artifacts: they state what the store holds, and no more."""

from typing import Any

import dagster as dg

from dolly_assets.dagster_support.partitions import partition_of
from dolly_assets.dagster_support.report_links import linked_report
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import AssetKind
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.asset_metadata import artifact_metadata

DATA_VERSION = "dagster/data_version"  # the tag by which Dagster knows a materialization's content


def materialization_of(artifact: Artifact) -> dg.AssetMaterialization:
    """Return the materialization of an artifact."""
    address = ArtifactAddress.parse(artifact.name)
    return dg.AssetMaterialization(
        **_described(address, artifact), tags={DATA_VERSION: artifact.digest}
    )


def observation_of(kind: AssetKind, artifact: Artifact) -> dg.AssetObservation:
    """Return the observation by which an artifact is shown with another asset of its family."""
    address = ArtifactAddress.parse(artifact.name)
    beside = kind.address(address.family, address.dataset, address.epoch)
    return dg.AssetObservation(**_described(beside, artifact))


def _described(address: ArtifactAddress, artifact: Artifact) -> dict[str, Any]:
    return {
        "asset_key": dg.AssetKey(address.asset_key),
        "partition": partition_of(address),
        "metadata": {**linked_report(artifact), **artifact_metadata(artifact)},
    }
