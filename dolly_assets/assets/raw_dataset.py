"""raw_dataset: a dataset as its source gives it, in the canonical columns, as Parquet."""

import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from dolly_assets.core.markdown import markdown_table
from dolly_assets.dagster_support.columns import column_schema, hub_link
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource, made_by
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.schema import SCHEMA, content_digest
from dolly_assets.datasets.sources import read_source, source_version
from dolly_assets.registry.kinds import RAW_DATASET
from dolly_assets.registry.queries import latest
from dolly_assets.storage.artifact import Artifact, ArtifactFields, ArtifactStore
from dolly_assets.storage.conventions import TABLE_FILE

SAMPLE_ROWS = 5
COLUMNS = {
    "instruction": "The task.",
    "context": "What the task is about; may be empty.",
    "response": "The answer to learn.",
    "category": "Kind of task; may be empty.",
}
LATE_AFTER = timedelta(days=8)  # sources are looked at weekly


def build_raw_dataset(declared: Sequence[DatasetConfig]) -> dg.AssetsDefinition:
    """The asset `raw_dataset`, by dataset; the declared datasets and those added to the catalogue can be read."""

    @dg.asset(
        metadata={"dagster/column_schema": column_schema(SCHEMA, COLUMNS)},
        partitions_def=DATASETS,
        group_name="datasets",
        kinds={"parquet"},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=LATE_AFTER),
        description="Instruction data as its source gives it, in the columns instruction, context, response, category.",
    )
    def raw_dataset(context: dg.AssetExecutionContext, store: StoreResource) -> Artifact:
        dataset, artifacts = store.catalogue(declared).get(context.partition_key), store.open()
        artifact = latest(artifacts, RAW_DATASET.address(dataset=dataset.name))
        version = source_version(
            dataset.source
        )  # before it is read: what changes meanwhile is seen the next time
        if (
            artifact
            and _is_described(dataset, artifact)
            and artifact.manifest.attributes.get("version") == version
        ):
            context.log.info(f"{dataset.source} is what it was: not read again")
        else:
            context.log.info(f"reading {dataset.source}")
            artifact = _read(dataset, version, artifacts, artifact, made_by(context))
        rows = int(str(artifact.manifest.attributes["rows"]))
        context.add_output_metadata({"dagster/row_count": rows, **_link(artifact)})
        return artifact

    return raw_dataset


def _read(
    dataset: DatasetConfig,
    version: str | None,
    store: ArtifactStore,
    newest: Artifact | None,
    by: dict[str, str],
) -> Artifact:
    """Publishes what the source holds.

    Equal examples are the files of before, so that nothing downstream is stale.
    """
    source = read_source(dataset.source)
    content = content_digest(source.table)
    facts: ArtifactFields = {
        "kind": RAW_DATASET.name,
        "attributes": {
            **_facts(dataset),
            "version": version,
            "revision": source.revision,
            "format": source.format,
            "license": dataset.license
            if dataset.license != "unknown"
            else source.license or "unknown",
            "rows": source.table.num_rows,
            "content_digest": content,
            "dropped_columns": list(source.dropped_columns) or None,
            "sample_markdown": _sample(source.table),
        },
        "made_by": by,
    }
    name = RAW_DATASET.address(dataset=dataset.name).name
    if newest and newest.manifest.attributes.get("content_digest") == content:
        return store.commit(name, newest.manifest.files, **facts)
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(source.table, Path(folder) / TABLE_FILE, compression="zstd")
        return store.publish(name, Path(folder), **facts)


def _link(artifact: Artifact) -> dict[str, dg.MetadataValue]:
    """To the very revision on the Hub that was read, if it came from there."""
    attributes = artifact.manifest.attributes
    if attributes["format"] != "hub":
        return {}
    name, commit = (str(attributes[key]) for key in ("source", "revision"))
    return {
        "upstream": hub_link(f"datasets/{name.partition('@')[0]}", commit.removeprefix("commit:"))
    }


def is_unchanged(dataset: DatasetConfig, artifact: Artifact) -> bool:
    """Whether a dataset is what an artifact holds: same source at the same version, and the same said of it.

    The source is looked at, not read.

    Raises:
        DatasetError: The source cannot be reached, or there is nothing at it.
    """
    if not _is_described(dataset, artifact):
        return False
    return artifact.manifest.attributes.get("version") == source_version(dataset.source)


def _is_described(dataset: DatasetConfig, artifact: Artifact) -> bool:
    """Whether an artifact keeps what the catalogue says of the dataset now."""
    facts = _facts(dataset)
    return facts == {name: artifact.manifest.attributes.get(name) for name in facts}


def _facts(dataset: DatasetConfig) -> dict[str, Any]:
    """What the catalogue says of a dataset, as its artifact keeps it; an unstated licence is the source's."""
    checks = {
        name: limits.model_dump(exclude_unset=True) for name, limits in dataset.checks.items()
    }
    stated = {"license": dataset.license} if dataset.license != "unknown" else {}
    return {
        "source": dataset.source,
        "answers": dataset.answers,
        "checks": checks or None,
        **stated,
    }


def _sample(table: pa.Table) -> str:
    rows = table.slice(0, SAMPLE_ROWS).to_pylist()
    return markdown_table(table.column_names, [list(row.values()) for row in rows])
