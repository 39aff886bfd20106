"""What Dagster calls stale and requests after data was read again, when there was a training."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import (  # what the UI asks
    CachingStaleStatusResolver,
    StaleStatus,
)
from dagster._core.instance.types import CachingDynamicPartitionsLoader
from dagster._core.loader import LoadingContextForTest

from dolly_assets.components.code_location import build
from dolly_assets.core.environment import Environment
from dolly_assets.pipeline.session import Session
from dolly_assets_tests.automation.automated import requested
from dolly_assets_tests.home import Home

POLICY = "  automation: {datasets: ['*'], training: automatic, epochs: 2}\n"


class Trained:
    """A session with the datasets `animals`, trained on, and `others`, read only; each one file."""

    def __init__(self, home: Home, animals: Path, others: Path) -> None:
        self.animals = animals
        with (home.path / "defs" / "tiny" / "defs.yaml").open("a") as family:
            family.write(POLICY)
        self.session = Session(Environment.read(home.variables))
        entry = self.session.catalogue.get("animals")
        moved = entry.model_copy(update={"source": str(animals)})
        (home.path / "store" / "catalogue" / "animals.json").write_text(moved.model_dump_json())
        self.session.catalogue.add(
            entry.model_copy(update={"name": "others", "source": str(others)})
        )
        self.session.register_datasets(["others"])
        self.read("others")
        self._definitions = build(self.session.environment)
        self._cursor: Any = None

    def read(self, dataset: str) -> None:
        """Materializes raw_dataset of it."""
        self.session.materialize([["raw_dataset"]], dataset)

    def stale(self) -> dict[str, str]:
        """Asset and partition -> why it is stale, for all that are."""
        instance, graph = self.session.instance, self._definitions.resolve_asset_graph()
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        found = {}
        for key in graph.materializable_asset_keys:
            for partition in instance.get_materialized_partitions(key) or [None]:
                if resolver.get_status(key, partition) == StaleStatus.STALE:
                    causes = [cause.reason for cause in resolver.get_stale_causes(key, partition)]
                    found[f"{key.to_user_string()} {partition}"] = ", ".join(causes)
        return found

    def requested(self) -> dict[str, set[str]]:
        """What the automation sensor asks for now."""
        instance, assets = self.session.instance, dg.AssetSelection.groups("datasets", "tiny")
        with dg.partition_loading_context(
            dynamic_partitions_store=CachingDynamicPartitionsLoader(instance)
        ):
            result = dg.evaluate_automation_conditions(
                self._definitions, instance, assets, cursor=self._cursor
            )
        self._cursor = result.cursor
        return requested(self._definitions, result)


@pytest.fixture
def location(
    trained_copy: Home, animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Trained:
    monkeypatch.setenv("DAGSTER_HOME", "")  # the platform sets it
    files = [tmp_path / "animals.jsonl", tmp_path / "others.jsonl"]
    for file in files:
        file.write_text(animals.read_text())
    return Trained(trained_copy, *files)


def test_only_changed_data_makes_stale_and_only_what_follows_from_it(location: Trained) -> None:
    location.requested()
    assert not location.stale()
    for _ in range(2):
        location.read("animals")
    assert not location.stale()
    assert not location.requested()
    lines = location.animals.read_text().splitlines(keepends=True)
    location.animals.write_text("".join([lines[0].replace("cat", "lynx"), *lines[1:]]))
    location.read("animals")
    assert location.stale() == {
        "tiny/tokenized_dataset animals": "has a new dependency data version"
    }
    assert location.requested() == {"tiny/tokenized_dataset": {"animals"}}
