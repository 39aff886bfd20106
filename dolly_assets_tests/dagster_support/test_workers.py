"""Workers of one run: each step has its own, whatever the others do."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dolly_assets.assets.base_model import build_base_model
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.io_manager import ArtifactIOManager
from dolly_assets_tests.tiny_training import tiny_family

FOLDER = "DOLLY_TEST_FOLDER"
FAMILIES = ("tiny", "twin")


def both_base_models() -> dg.JobDefinition:
    """The base models of two families, as a job whose steps are processes."""
    folder = Path(os.environ[FOLDER])
    settings: dict[str, Any] = {"url": str(folder / "store"), "cache_dir": str(folder / "cache")}
    store = StoreResource(**settings)
    families = [tiny_family().model_copy(update={"name": name}) for name in FAMILIES]
    definitions = dg.Definitions(
        assets=[build_base_model(family) for family in families],
        jobs=[dg.define_asset_job("both")],
        resources={
            "store": store,
            "io_manager": ArtifactIOManager(**settings),
            "worker": WorkerResource(store=store, scratch_dir=str(folder / "scratch")),
        },
    )
    return definitions.resolve_job_def("both")


@pytest.mark.slow
@pytest.mark.long
def test_two_families_in_one_run_have_a_worker_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    (tmp_path / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as instance:
        result = dg.execute_job(dg.reconstructable(both_base_models), instance=instance)
        assert result.success
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    assert all(store.latest(f"{name}/base_model") for name in FAMILIES)
    assert not [*(tmp_path / "scratch").glob("*/*")]
