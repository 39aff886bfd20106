"""Metadata for Dagster: an asset's columns, where they come from, and what lies upstream."""

from collections.abc import Mapping, Sequence

import dagster as dg
import pyarrow as pa


def column_schema(schema: pa.Schema, descriptions: Mapping[str, str]) -> dg.TableSchema:
    """Return the columns of a table, with a description of each."""
    return dg.TableSchema(
        [dg.TableColumn(each.name, str(each.type), descriptions[each.name]) for each in schema]
    )


def column_lineage(upstream: str, columns: Mapping[str, Sequence[str]]) -> dg.TableColumnLineage:
    """Return the columns of the upstream asset that each column is made from."""
    key = dg.AssetKey(upstream)
    deps = {
        name: [dg.TableColumnDep(key, each) for each in made_from]
        for name, made_from in columns.items()
    }
    return dg.TableColumnLineage(deps)


def hub_link(name: str, commit: str) -> dg.MetadataValue:
    """Return a link to a model or dataset of the Hugging Face Hub at one commit."""
    return dg.MetadataValue.url(f"https://huggingface.co/{name}/tree/{commit}")
