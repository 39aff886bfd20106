"""From artifacts to Dagster's events: what the store holds is told, never more."""

import dagster as dg

from dolly_assets.assets.partitions import partition_key
from dolly_assets.assets.report_links import linked_report
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.io_manager import artifact_metadata

DATA_VERSION = "dagster/data_version"  # the tag by which Dagster knows a materialization's content


def materialization_of(artifact: Artifact) -> dg.AssetMaterialization:
    """The event of an artifact by dataset and epoch, whose name is family/asset/dataset/epoch."""
    family, asset, dataset, epoch = artifact.name.split("/")
    return dg.AssetMaterialization(
        asset_key=dg.AssetKey([family, asset]),
        partition=partition_key(dataset, int(epoch)),
        metadata={**linked_report(artifact), **artifact_metadata(artifact)},
        tags={DATA_VERSION: artifact.digest},
    )
