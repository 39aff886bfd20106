"""Every example is run as its folder holds it, in a home of its own."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from dolly_assets_tests.home import Home

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> "ExampleHome":
    """A home with a copy of the examples, in which `my_model` was trained as the README says."""
    home = ExampleHome(tmp_path_factory.mktemp("home"))
    examples = Path(shutil.copytree(EXAMPLES, home.path / "examples"))
    home.dolly("datasets", "add", "animals", str(examples / "animals.jsonl"), "--answers", "exact")
    home.dolly("train", "--model", "my_model", "--dataset", "animals", "--epochs", "1-4")
    return home


@dataclass(frozen=True)
class ExampleHome(Home):
    """A home with the families of the examples."""

    @property
    def variables(self) -> dict[str, str]:
        return {**super().variables, "DOLLY_DEFS": str(self.path / "examples" / "families")}

    def scores(self, family: str) -> dict[int, float]:
        """Epoch -> held-out loss."""
        rows = json.loads(self.dolly("status", "--json"))
        of_family = [row for row in rows if row["family"] == family and row["digest"]]
        return {row["epoch"]: row["held_out_loss"] for row in of_family}


@pytest.mark.slow
def test_a_model_of_ones_own_learns(home: ExampleHome) -> None:
    losses = home.scores("my_model")
    assert list(losses) == [0, 1, 2, 3, 4]
    assert losses[4] < losses[0] / 2
    arguments = ["chat", "--model", "my_model", "--dataset", "animals", "--epoch", "4"]
    assert home.dolly(*arguments, "How many legs has a cat?")


@pytest.mark.slow
@pytest.mark.long
def test_an_adapter_learns_beside_the_weights_of_an_epoch(home: ExampleHome) -> None:
    base = home.path / "examples" / "families" / "my_adapter" / "base"
    home.dolly("artifacts", "fetch", "my_model/model_checkpoint/animals/04", str(base))
    home.dolly("train", "--model", "my_adapter", "--dataset", "animals", "--epochs", "1-2")
    losses = home.scores("my_adapter")
    assert losses[0] == pytest.approx(home.scores("my_model")[4])
    assert losses[2] < losses[0]


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last(home: ExampleHome) -> None:
    cells = json.loads((EXAMPLES / "losses.ipynb").read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells), "clear its outputs before a commit"
    script = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    variables = {**home.variables, "FAMILY": "my_model", "DATASET": "animals"}
    output = run([sys.executable, "-c", script], variables)
    assert re.search(r"epoch [1-4] has the lowest held-out loss: \d+\.\d{4}", output)


@pytest.mark.slow
def test_the_profiler_reports_on_a_training_that_does_not_know_of_it(tmp_path: Path) -> None:
    training = [sys.executable, str(EXAMPLES / "profiling" / "train.py")]
    profiler = [sys.executable, "-m", "dolly_assets.profiling", "--interval", "0.2"]
    output = run([*profiler, "--out", str(tmp_path), "--", *training], {})
    assert "step 300: loss" in output
    assert "<html" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["samples_count"] > 0


def test_a_dagster_project_has_the_familys_assets_and_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definitions = project(tmp_path, monkeypatch)
    dg.Definitions.validate_loadable(definitions)
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert {"raw_dataset", "my_model/model_checkpoint", "my_model/champion_model"} <= keys
    graph = definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey("model_card")).parent_keys == {
        dg.AssetKey(["my_model", "champion_model"])
    }


@pytest.mark.slow
def test_a_dagster_projects_own_asset_reads_what_was_trained(
    home: ExampleHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOLLY_STORE", str(home.path / "store"))
    definitions = project(tmp_path, monkeypatch)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("dataset", ["animals"])
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("model_card")], partition_key="animals"
        )
        [event] = result.get_asset_materialization_events()
        assert "epoch" in event.materialization.metadata


def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    """Load the Dagster project as `dagster dev -m my_project.definitions` does in its folder."""
    monkeypatch.setenv("DOLLY_HOME", str(home))
    monkeypatch.delenv("DOLLY_DEFS", raising=False)
    monkeypatch.syspath_prepend(EXAMPLES / "dagster_project")
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_project"]:
        monkeypatch.delitem(sys.modules, name)
    definitions = importlib.import_module("my_project.definitions").definitions()
    assert isinstance(definitions, dg.Definitions)
    return definitions


def run(command: list[str], variables: dict[str, str]) -> str:
    """Run a command to its end and return what it wrote to standard output."""
    process = subprocess.run(
        command,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout
