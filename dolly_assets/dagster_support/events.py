"""From artifacts to Dagster's events: what the store holds is told, never more."""

from typing import Any

import dagster as dg

from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.dagster_support.report_links import linked_report
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.io_manager import artifact_metadata

DATA_VERSION = "dagster/data_version"  # the tag by which Dagster knows a materialization's content


def materialization_of(artifact: Artifact) -> dg.AssetMaterialization:
    """The event of an artifact by dataset and epoch, whose name is family/asset/dataset/epoch."""
    _, asset, *_ = artifact.name.split("/")
    return dg.AssetMaterialization(
        **_told_of(asset, artifact), tags={DATA_VERSION: artifact.digest}
    )


def observation_of(asset: str, artifact: Artifact) -> dg.AssetObservation:
    """The event by which an artifact by dataset and epoch is seen beside another asset of its family."""
    return dg.AssetObservation(**_told_of(asset, artifact))


def _told_of(asset: str, artifact: Artifact) -> dict[str, Any]:
    family, _, dataset, epoch = artifact.name.split("/")
    return {
        "asset_key": dg.AssetKey([family, asset]),
        "partition": partition_key(dataset, int(epoch)),
        "metadata": {**linked_report(artifact), **artifact_metadata(artifact)},
    }
