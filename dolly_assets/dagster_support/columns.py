"""How Dagster is told of an asset's columns, of those that they come from, and of what lies upstream of the asset."""

from collections.abc import Mapping, Sequence

import dagster as dg
import pyarrow as pa


def column_schema(schema: pa.Schema, descriptions: Mapping[str, str]) -> dg.TableSchema:
    """The columns of a table; every one is described."""
    return dg.TableSchema(
        [dg.TableColumn(each.name, str(each.type), descriptions[each.name]) for each in schema]
    )


def column_lineage(upstream: str, columns: Mapping[str, Sequence[str]]) -> dg.TableColumnLineage:
    """Which columns of the asset upstream each column is made from."""
    key = dg.AssetKey(upstream)
    deps = {
        name: [dg.TableColumnDep(key, each) for each in made_from]
        for name, made_from in columns.items()
    }
    return dg.TableColumnLineage(deps)


def hub_link(name: str, commit: str) -> dg.MetadataValue:
    """A model or dataset of the Hugging Face Hub as of one commit."""
    return dg.MetadataValue.url(f"https://huggingface.co/{name}/tree/{commit}")
