"""Equal examples are equal data, however often and in whatever file they come."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dolly_assets.assets.raw_dataset import build_raw_dataset
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.reading import reading_of
from dolly_assets.datasets.sources import read_source
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.io_manager import ArtifactIOManager

pytestmark = pytest.mark.slow

LINE = '{"instruction": "Name a colour.", "response": "Blue."}\n'


def test_the_data_version_follows_the_examples_and_not_the_file(
    tmp_path: Path, store: ArtifactStore
) -> None:
    file = tmp_path / "colours.jsonl"
    file.write_text(LINE)
    first = read(file, tmp_path)
    file.write_text(LINE + "\n")  # other bytes, the same examples
    again = read(file, tmp_path)
    assert again.manifest.attributes["revision"] != first.manifest.attributes["revision"]
    assert again.digest == first.digest
    file.write_text(LINE * 2)
    assert read(file, tmp_path).digest != first.digest


def read(file: Path, folder: Path) -> Artifact:
    """Materializes it, and returns what Dagster knows as its data."""
    settings: dict[str, Any] = {"url": str(folder / "store"), "cache_dir": str(folder / "cache")}
    resources = {"store": StoreResource(**settings), "io_manager": ArtifactIOManager(**settings)}
    assets = [build_raw_dataset([DatasetConfig(name="colours", source=str(file))])]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(DATASETS.name), ["colours"])
        result = dg.materialize(
            assets, instance=instance, partition_key="colours", resources=resources
        )
    artifact = StoreResource(**settings).open().latest("raw_dataset/colours")
    assert artifact
    [event] = result.asset_materializations_for_node("raw_dataset")
    assert (event.tags or {})["dagster/data_version"] == artifact.digest
    assert event.metadata["dagster/row_count"].value == artifact.manifest.attributes["rows"]
    assert event.metadata["reading"].value == reading_of(read_source(str(file)))
    return artifact
