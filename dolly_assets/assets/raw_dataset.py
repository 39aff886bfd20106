"""raw_dataset: a dataset as its source gives it, in the canonical columns, as Parquet."""

import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import dagster as dg

from dolly_assets.conversations.tables import COLUMNS, EXCHANGE_SCHEMA, SCHEMAS, form_of
from dolly_assets.dagster_support.columns import column_schema, hub_link
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.dagster_support.run_context import made_by
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.excerpts import sample_markdown
from dolly_assets.datasets.licenses import UNKNOWN
from dolly_assets.datasets.reading import MOST_NAMES, reading_of
from dolly_assets.datasets.schema import content_digest
from dolly_assets.datasets.sources import read_source, source_version
from dolly_assets.registry.attributes import RawDatasetAttributes
from dolly_assets.registry.kinds import RAW_DATASET
from dolly_assets.registry.queries import latest
from dolly_assets.registry.raw_datasets import declared_attributes, is_at_version
from dolly_assets.storage.artifact import Artifact, ArtifactFields, ArtifactStore
from dolly_assets.storage.conventions import TABLE_FILE
from dolly_assets.storage.tables import write_parquet

LATE_AFTER = timedelta(days=8)  # sources are checked weekly


def build_raw_dataset(declared: Sequence[DatasetConfig]) -> dg.AssetsDefinition:
    """Return the asset `raw_dataset`, by dataset, of declared and other known datasets."""

    @dg.asset(
        metadata={"dagster/column_schema": column_schema(EXCHANGE_SCHEMA, COLUMNS)},
        partitions_def=DATASETS,
        group_name="datasets",
        kinds={"parquet"},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=LATE_AFTER),
        description="Instruction data as its source gives it: single exchanges in the columns "
        "instruction, context, response, category; conversations in messages, tools, category, "
        "source, id; preferences in prompt, chosen, rejected and what is known of the two models.",
    )
    def raw_dataset(context: dg.AssetExecutionContext, store: StoreResource) -> Artifact:
        dataset, artifacts = store.catalogue(declared).get(context.partition_key), store.open()
        artifact = latest(artifacts, RAW_DATASET.address(dataset=dataset.name))
        # Before it is read, so that the next run sees what changes meanwhile.
        version = source_version(dataset.source)
        if artifact and is_at_version(dataset, artifact, version):
            context.log.info(f"{dataset.source} is unchanged: skipped")
        else:
            context.log.info(f"reading {dataset.source}")
            artifact = _read(dataset, version, artifacts, artifact, made_by(context))
        described = RawDatasetAttributes.of(artifact)
        context.add_output_metadata(
            {"dagster/row_count": described.rows, **_columns(described), **_link(described)}
        )
        return artifact

    return raw_dataset


def _read(
    dataset: DatasetConfig,
    version: str | None,
    store: ArtifactStore,
    newest: Artifact | None,
    by: dict[str, str],
) -> Artifact:
    """Publish what the source holds.

    Equal examples keep the files of before, so that nothing downstream becomes stale.
    """
    source = read_source(dataset.source)
    content = content_digest(source.table)
    attributes = RawDatasetAttributes.model_validate(
        {
            "license": source.license or UNKNOWN,
            **declared_attributes(dataset),
            "version": version,
            "revision": source.revision,
            "format": source.format,
            "rows": source.table.num_rows,
            "content_digest": content,
            "reading": reading_of(source),
            "dropped_columns": list(source.dropped_columns[:MOST_NAMES]) or None,
            "form": form_of(source.table),
            "sample_markdown": sample_markdown(source.table),
        }
    )
    fields: ArtifactFields = {
        "kind": RAW_DATASET.name,
        "attributes": attributes.as_json(),
        "made_by": by,
    }
    name = RAW_DATASET.address(dataset=dataset.name).name
    if newest and RawDatasetAttributes.of(newest).content_digest == content:
        return store.commit(name, newest.manifest.files, **fields)
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(source.table, Path(folder) / TABLE_FILE)
        return store.publish(name, Path(folder), **fields)


def _columns(described: RawDatasetAttributes) -> dict[str, dg.TableSchema]:
    """Return the columns of other forms, which take the place of those that the asset states."""
    if described.form == "exchanges":
        return {}
    return {"dagster/column_schema": column_schema(SCHEMAS[described.form], COLUMNS)}


def _link(described: RawDatasetAttributes) -> dict[str, dg.MetadataValue]:
    """Return a link to the revision on the Hub that was read, if the dataset came from there."""
    if described.format != "hub" or not described.source or not described.revision:
        return {}
    name = described.source.partition("@")[0]
    return {"upstream": hub_link(f"datasets/{name}", described.revision.removeprefix("commit:"))}
