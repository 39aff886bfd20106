"""From artifacts to Dagster's events: what the store holds is told, never more."""

import base64
from typing import Any

import dagster as dg

from dolly_assets.assets.partitions import partition_key
from dolly_assets.storage.artifact import Artifact

PICTURE = "picture.png"


def metadata_of(artifact: Artifact) -> dict[str, dg.MetadataValue]:
    """What is shown of an artifact: where it is, its attributes, and its picture if it has one."""
    manifest = artifact.manifest
    shown: dict[str, dg.MetadataValue] = {
        "dagster/uri": dg.MetadataValue.text(artifact.uri),
        "digest": dg.MetadataValue.text(artifact.digest),
        "size_bytes": dg.MetadataValue.int(artifact.size_bytes),
        "files": dg.MetadataValue.int(len(manifest.files)),
    }
    shown.update({name: _value(name, value) for name, value in manifest.attributes.items() if value is not None})
    if any(entry.path == PICTURE for entry in manifest.files):
        shown["picture"] = _picture(artifact.read_bytes(PICTURE))
    return shown


def result_of(artifact: Artifact) -> dg.MaterializeResult:
    """The result of an asset whose worker published one artifact."""
    return dg.MaterializeResult(metadata=metadata_of(artifact), data_version=dg.DataVersion(artifact.digest))


def materialization_of(artifact: Artifact) -> dg.AssetMaterialization:
    """The event of a dataset × epoch artifact, whose name is family/asset/dataset/epoch."""
    family, asset, dataset, epoch = artifact.name.split("/")
    return dg.AssetMaterialization(
        asset_key=dg.AssetKey([family, asset]),
        partition=partition_key(dataset, int(epoch)),
        metadata=metadata_of(artifact),
        tags={"dagster/data_version": artifact.digest},
    )


def _value(name: str, value: Any) -> dg.MetadataValue:
    if name.endswith("_markdown"):
        return dg.MetadataValue.md(value)
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value)
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return dg.MetadataValue.json(value)


def _picture(png: bytes) -> dg.MetadataValue:
    return dg.MetadataValue.md(f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})")
