"""`import dolly_assets` in a notebook: it costs nothing, and gives models, losses and scores."""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dolly_assets as dolly
from dolly_assets.core.errors import ArtifactError, ConfigurationError
from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.artifact import artifact_name
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.home import Home

# A script, as the time of an import can be measured in a new process only.
IMPORT = """
import json, sys, time
before = set(sys.modules)
began = time.process_time()
import dolly_assets
seconds = time.process_time() - began
print(json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}))
"""


@pytest.fixture
def opened(trained: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A trained home that the environment names."""
    for name, value in trained.variables.items():
        monkeypatch.setenv(name, value)
    return trained


@pytest.mark.slow
def test_importing_costs_nothing() -> None:
    command = [sys.executable, "-c", IMPORT]
    costs = [json.loads(subprocess.check_output(command, timeout=60)) for _ in range(3)]
    assert min(cost["seconds"] for cost in costs) < 0.05
    loaded = [name for name in costs[0]["modules"] if not name.startswith("dolly_assets")]
    assert not {"numpy", "pandas", "pyarrow", "pydantic", "dagster", "torch", "typing"} & set(
        loaded
    )
    assert "dolly_assets.notebook" not in costs[0]["modules"]


def test_everything_that_is_listed_is_there_and_nothing_else() -> None:
    assert all(getattr(dolly, name) for name in dolly.__all__)
    assert set(dolly.__all__) <= set(dir(dolly))
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = dolly.no_such_name  # pyright: ignore[reportAttributeAccessIssue]


def test_the_families_are_those_of_the_command_line(opened: Home) -> None:
    assert {"demo", "tiny"} <= set(dolly.families())
    assert dolly.open_store().url == (opened.path / "store").as_uri()


def test_each_epoch_is_a_row_beside_the_base_model(opened: Home) -> None:
    rows = dolly.epochs("tiny", "animals").to_dict("index")
    assert list(rows) == [0, 1, 2]
    status = opened.status()
    for epoch in (0, 1, 2):
        for column in ("digest", "held_out_loss", "exact_match"):
            assert rows[epoch][column] == status[epoch][column]
    assert [math.isnan(rows[epoch]["loss"]) for epoch in rows] == [True, False, False]


def test_each_step_is_a_row(opened: Home) -> None:
    rows = dolly.steps("tiny", "animals").to_dict("records")
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["epoch"] for row in rows} == {1, 2}
    assert not any(math.isnan(value) for row in rows for value in row.values())
    assert all(row["seconds"] > 0 for row in rows)
    first, second = (
        statistics.fmean(row["loss"] for row in rows if row["epoch"] == epoch) for epoch in (1, 2)
    )
    assert second < first
    [_, _, of_epoch] = dolly.epochs("tiny", "animals").to_dict("list")["loss"]
    assert of_epoch == pytest.approx(second, rel=0.05)


def test_a_published_model_answers_and_gives_the_same_answer_again(opened: Home) -> None:
    model = dolly.open_model("tiny", dataset="animals", epoch=2)
    assert model.checkpoint.name == "tiny/model_checkpoint/animals/02"
    one = model.answer("Name an animal.", max_new_tokens=4)
    both = model.answers(["Legs of a hen?", ("Name an animal.", "")], max_new_tokens=4)
    assert both[1] == one
    assert len(both) == 2


def test_what_is_not_there_is_refused_with_what_to_do(opened: Home) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown model family 'none'; known: .*tiny"):
        dolly.open_model("none", dataset="animals", epoch=1)
    with pytest.raises(ArtifactError, match=r"partition animals\|04, is not in the store"):
        dolly.open_model("tiny", dataset="animals", epoch=4)
    with pytest.raises(ArtifactError, match="run: dolly train --model tiny --dataset plants"):
        dolly.steps("tiny", "plants")


def old_epoch(store: ArtifactStore, publish: Publish, folder: Path, training: str) -> None:
    """Publish the first epoch of a training as version 0.1.0 did: tokens are in the profile."""
    steps = {"step": [1, 2], "loss": [4.0, 3.0], "learning_rate": [0.1, 0.1]}
    ranks = {
        "step": [2, 2, 1, 1],
        "rank": [0, 1, 0, 1],
        "started_at": [11.0, 11.5, 10.0, 10.0],
        "ended_at": [12.0, 13.0, 11.0, 10.5],
        **{f"{tokens}_tokens": [4, 3, 2, 1] for tokens in ("real", "processed", "labelled")},
        **{
            f"{phase}_seconds": [0.1, 0.3, 0.2, 0.4]
            for phase in ("data", "forward", "backward", "optimizer", "wait")
        },
    }
    for asset, table in (("gpu_profile", ranks), ("model_checkpoint", steps)):
        pq.write_table(pa.table(table), folder / "steps.parquet")
        store.publish(
            artifact_name(["tiny", asset], "animals", "01"),
            {"steps.parquet": folder / "steps.parquet"},
            kind=asset,
            attributes={"training": training, "epoch": 1, "loss": 3.5},
        )
    publish(["tiny", "evaluation"], "animals", "01", attributes={"heldout_loss": 1.0})


def test_the_steps_of_an_older_version_are_those_of_checkpoint_and_profile(
    store: ArtifactStore, publish: Publish, tmp_path: Path
) -> None:
    old_epoch(store, publish, tmp_path, training="a")
    table = dolly.steps("tiny", "animals", store=store).to_dict("list")
    assert table["loss"] == [4.0, 3.0]
    assert table["real_tokens"] == [3, 7]
    assert table["seconds"] == [1.0, 2.0]
    assert table["data_seconds"] == pytest.approx([0.3, 0.2])
    assert table["grad_norm"] == [None, None]


def test_scores_of_another_checkpoint_and_epochs_of_another_training_are_left_out(
    store: ArtifactStore, publish: Publish, tmp_path: Path
) -> None:
    publish(["tiny", "model_checkpoint"], "animals", "02", attributes={"training": "b", "epoch": 2})
    old_epoch(store, publish, tmp_path, training="a")
    rows = dolly.epochs("tiny", "animals", store=store).to_dict("index")
    assert list(rows) == [1]
    assert rows[1]["held_out_loss"] is None
