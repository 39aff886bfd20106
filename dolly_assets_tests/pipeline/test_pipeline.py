"""The main job as a user runs it: raw data to compared epochs, interrupted, continued, repeated.

Real are the command line, Dagster and its instance, DeepSpeed on two CPU ranks, and the store on
disk.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
import pytest

from dolly_assets.profiling.analysis.units import number
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets_tests.home import Home

TRAIN = ["train", "--model", "tiny", "--dataset", "animals", "--epochs"]


def test_every_epoch_is_published_scored_and_compared(trained: Home) -> None:
    rows = trained.status()
    assert [epoch for epoch, row in rows.items() if row["digest"]] == [0, 1, 2]
    assert rows[2]["held_out_loss"] < rows[1]["held_out_loss"] < rows[0]["held_out_loss"]
    assert all(0 <= rows[epoch]["exact_match"] <= 1 for epoch in (0, 1, 2))
    assert len({rows[epoch]["weights_sha256"] for epoch in (0, 1, 2)}) == 3
    store = ArtifactStore(str(trained.path / "store"), trained.path / "cache")
    comparison = store.latest("tiny/epoch_comparison/animals")
    assert comparison
    page = comparison.read_bytes("comparison.html").decode()
    assert "0 (base model)" in page
    assert "Name an animal." in page
    training = store.latest("tiny/training_profile/animals")
    assert training
    assert set(training.manifest.inputs) == {
        "tiny/gpu_profile/animals/01",
        "tiny/gpu_profile/animals/02",
    }
    assert json.loads(training.read_bytes("summary.json"))["epochs"] == 2
    for digest in training.manifest.inputs.values():
        assert f"/{digest}/report.html" in training.read_bytes("report.html").decode()
    assert "tokens per second" in trained.dolly(
        "profile", "show", "--model", "tiny", "--dataset", "animals"
    )


def test_pictures_previews_and_reports_name_nothing(trained: Home) -> None:
    """Of no kind: what they show may depend on fonts and libraries."""
    store = ArtifactStore(str(trained.path / "store"), trained.path / "cache")
    with_some = set()
    for name in store.names():
        artifact = store.latest(name)
        assert artifact
        top = [entry for entry in artifact.manifest.files if "/" not in entry.path]
        shown = {
            entry.path
            for entry in top
            if entry.path.endswith((".png", ".md", ".html"))
            or entry.path in ("statistics.json", "decision.json", "record_losses.parquet")
        }
        assert {entry.path for entry in top if entry.is_description} == shown, name
        if shown:
            with_some.add(artifact.manifest.kind)
    # Models in stages state how they came there.
    assert with_some - {"champion_model", "candidate_model"} == {
        "tokenized_dataset",
        "model_checkpoint",
        "gpu_profile",
        "training_profile",
        "epoch_comparison",
    }


def test_an_epoch_has_the_same_speed_on_every_page(trained: Home) -> None:
    """In the checkpoint, the status, the profile's attributes and numbers, and on its page."""
    store = ArtifactStore(str(trained.path / "store"), trained.path / "cache")
    rows = trained.status()
    for epoch in (1, 2):
        checkpoint = store.latest(f"tiny/model_checkpoint/animals/{epoch:02d}")
        profile = store.latest(f"tiny/gpu_profile/animals/{epoch:02d}")
        assert checkpoint
        assert profile
        measured = checkpoint.manifest.attributes
        steps = json.loads(profile.read_bytes("summary.json"))["steps"]
        speed = measured["tokens_per_second"]
        assert speed == steps["tokens_per_second"] == rows[epoch]["tokens_per_second"]
        assert profile.manifest.attributes["tokens_per_second"] == speed
        for name in ("saving_seconds", "training_seconds", "mfu"):
            assert profile.manifest.attributes[name] == measured[name], name
        shown = number(steps["tokens_per_second"])
        assert (
            f"<strong>{shown}</strong><span>tokens per second</span>"
            in profile.read_bytes("report.html").decode()
        )


def test_a_step_is_one_record_and_its_ranks_are_in_the_profile(trained: Home) -> None:
    store = ArtifactStore(str(trained.path / "store"), trained.path / "cache")
    checkpoint = store.latest("tiny/model_checkpoint/animals/02")
    profile = store.latest("tiny/gpu_profile/animals/02")
    assert checkpoint
    assert profile
    steps = checkpoint.read_table("steps.parquet").to_pylist()
    ranks = profile.read_table("rank_steps.parquet").to_pylist()
    assert [step["step"] for step in steps] == [6, 7, 8, 9, 10]
    assert len(ranks) == 2 * len(steps)
    for step in steps:
        parts = [part for part in ranks if part["step"] == step["step"]]
        assert step["loss"] == parts[0]["loss"] == parts[1]["loss"]
        assert step["real_tokens"] == sum(part["real_tokens"] for part in parts)
        assert step["started_at"] == min(part["started_at"] for part in parts)
        assert step["ended_at"] == max(part["ended_at"] for part in parts)
        assert step["grad_norm"] > 0
        assert step["learning_rate"] > 0
    assert (
        sum(step["real_tokens"] for step in steps) == checkpoint.manifest.attributes["real_tokens"]
    )


def test_a_report_names_the_software_that_torch_runs_with(trained: Home) -> None:
    import torch

    store = ArtifactStore(str(trained.path / "store"), trained.path / "cache")
    profile = store.latest("tiny/gpu_profile/animals/01")
    assert profile
    page = profile.read_bytes("report.html").decode()
    assert f"<td>torch</td><td>{torch.__version__}</td>" in page


def test_a_second_run_finds_nothing_to_do(trained: Home) -> None:
    before = trained.status()
    assert "nothing to do" in trained.dolly(*TRAIN, "1-2")
    assert trained.status() == before


def test_dagster_shows_every_epoch_with_what_the_store_holds(trained: Home) -> None:
    """Each partition has one materialization, whose data version is the digest in the store."""
    rows = trained.status()
    with dg.DagsterInstance.from_config(str(trained.path / "dagster")) as instance:
        for asset in ("model_checkpoint", "gpu_profile", "sample_responses", "evaluation"):
            records = instance.fetch_materializations(
                dg.AssetKey(["tiny", asset]), limit=50
            ).records
            found = [record.asset_materialization for record in records]
            events = {event.partition or "": event for event in found if event}
            assert sorted(events) == ["animals|00", "animals|01", "animals|02"], asset
            assert len(records) == 3
            if asset == "model_checkpoint":
                for epoch in (0, 1, 2):
                    event = events[f"animals|{epoch:02d}"]
                    assert (event.tags or {})["dagster/data_version"] == rows[epoch]["digest"]
                assert {"loss", "learning_rate", "tokens_per_second"} <= set(
                    events["animals|02"].metadata
                )


@pytest.mark.long
def test_epochs_one_by_one_give_the_weights_of_one_go(
    trained: Home, new_home: Callable[[], Home]
) -> None:
    home = new_home()
    home.dolly(*TRAIN, "1")
    home.dolly(*TRAIN, "2")
    assert home.status()[2]["weights_sha256"] == trained.status()[2]["weights_sha256"]


def test_published_weights_are_those_of_the_last_step(trained: Home) -> None:
    """The safetensors of an epoch equal the parameters that DeepSpeed saved in its state."""
    import torch
    from transformers import AutoModelForCausalLM

    store = ArtifactStore(str(trained.path / "store"), trained.path / "cache")
    checkpoint = store.latest("tiny/model_checkpoint/animals/02")
    assert checkpoint
    folder = checkpoint.fetch()
    weights = AutoModelForCausalLM.from_pretrained(folder / "weights").state_dict()
    [state_file] = folder.glob("state/global_step*/mp_rank_00_model_states.pt")
    state = torch.load(state_file, weights_only=False)["module"]
    assert state.keys() == weights.keys()
    assert all(torch.equal(weights[name], state[name]) for name in weights)
    trainer_state = json.loads((folder / "state" / "trainer_state.json").read_text())
    assert trainer_state["global_step"] == 10  # 40 examples in batches of 8, twice


def test_killed_in_epoch_2_it_goes_on_after_epoch_1_to_the_same_weights(
    trained_copy: Home, new_home: Callable[[], Home]
) -> None:
    """SIGKILL to the whole process tree once epoch 1 is published."""
    home = new_home()
    process = home.start(*TRAIN, "1-3")
    _wait_for(home.path / "store/manifests/tiny/model_checkpoint/animals/01", process)
    _kill_tree(process.pid)
    process.communicate()
    before = home.status()
    assert before[1]["digest"]
    assert before[3]["digest"] is None

    home.dolly(*TRAIN, "1-3")
    after = home.status()
    assert (
        after[1] | {"held_out_loss": None, "heldout_loss": None, "exact_match": None} == before[1]
    )  # scored now, not trained again
    assert after[2]["weights_sha256"] == trained_copy.status()[2]["weights_sha256"]
    trained_copy.dolly(*TRAIN, "3")
    assert after[3]["weights_sha256"] == trained_copy.status()[3]["weights_sha256"]
    with dg.DagsterInstance.from_config(str(home.path / "dagster")) as instance:
        assert not instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))


@pytest.mark.long
def test_retrain_trains_again_and_comes_to_the_same_weights(trained_copy: Home) -> None:
    before = trained_copy.status()[1]
    trained_copy.dolly(*TRAIN, "1", "--retrain")
    after = trained_copy.status()[1]
    assert after["published_at"] > before["published_at"]
    assert after["weights_sha256"] == before["weights_sha256"]


def test_an_epoch_whose_predecessor_is_missing_is_refused_before_anything_runs(
    trained_copy: Home,
) -> None:
    message = trained_copy.dolly(*TRAIN, "4", code=2)
    assert "continues from epoch 3, which is not in the store" in message
    assert "--epochs 1-4" in message


@pytest.mark.long
def test_a_changed_recipe_starts_a_training_of_its_own(trained_copy: Home) -> None:
    """It never continues the other recipe's epochs, and going back finds those again."""
    first = trained_copy.status()[1]
    yaml = trained_copy.path / "defs/tiny/defs.yaml"
    recipe = yaml.read_text()
    yaml.write_text(recipe.replace("learning_rate: 1.0e-3", "learning_rate: 2.0e-3"))
    assert "(changed since: recipe.learning_rate from 0.001 to 0.002)" in trained_copy.dolly(
        *TRAIN, "2", code=2
    )
    trained_copy.dolly(*TRAIN, "1")
    assert trained_copy.status()[1]["weights_sha256"] != first["weights_sha256"]
    yaml.write_text(recipe)
    assert "is already in the store: skipped" in trained_copy.dolly(*TRAIN, "1")
    assert trained_copy.status()[1] | {"published_at": None} == first | {"published_at": None}


@pytest.mark.long
def test_a_judge_that_does_not_answer_fails_the_command_after_all_the_rest(
    trained_copy: Home,
) -> None:
    yaml = trained_copy.path / "defs/tiny/defs.yaml"
    judge = "judge: {url: 'http://127.0.0.1:1/v1', model: m, attempts: 1}"
    text = yaml.read_text()
    yaml.write_text(text.replace("{examples: 8,", f"{{{judge}, examples: 7,"))
    output = trained_copy.dolly(*TRAIN, "1-2", code=2)
    published = [line.split()[1] for line in output.splitlines() if "published animals" in line]
    assert published[-2:] == ["tiny/epoch_comparison", "tiny/champion_model"]
    assert "127.0.0.1:1" in output.splitlines()[-1]


def test_verify_names_the_file_with_a_flipped_bit(trained_copy: Home) -> None:
    assert "0 damaged files" in trained_copy.dolly("verify")
    store = ArtifactStore(str(trained_copy.path / "store"), trained_copy.path / "cache")
    checkpoint = store.latest("tiny/model_checkpoint/animals/02")
    assert checkpoint
    [weights] = [
        entry for entry in checkpoint.manifest.files if entry.path.endswith("model.safetensors")
    ]
    blob = trained_copy.path / "store" / weights.blob_key
    blob.chmod(0o644)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    assert "tiny/model_checkpoint/animals/02 weights/model.safetensors" in trained_copy.dolly(
        "verify", code=1
    )


@pytest.mark.long
def test_zero_3_in_bf16_publishes_whole_weights_and_goes_on_to_the_same_ones(
    new_home: Callable[[], Home],
) -> None:
    """With the settings of the large families, weights are gathered, and resuming is exact."""
    weights = []
    for parts in (["1-2"], ["1", "2"]):
        home = new_home()
        yaml = home.path / "defs/tiny/defs.yaml"
        recipe = (
            yaml.read_text()
            .replace("precision: fp32", "precision: bf16")
            .replace("zero_stage: 1", "zero_stage: 3")
        )
        yaml.write_text(recipe)
        for epochs in parts:
            home.dolly(*TRAIN, epochs)
        weights.append({epoch: row["weights_sha256"] for epoch, row in home.status().items()})
        assert home.status()[2]["held_out_loss"] < home.status()[0]["held_out_loss"]
    assert weights[0] == weights[1]


def test_chat_answers_from_a_checkpoint(trained: Home) -> None:
    arguments = ["chat", "--model", "tiny", "--dataset", "animals", "--epoch", "2"]
    answer = trained.dolly(*arguments, "How many legs has a cat?")
    assert answer == trained.dolly(*arguments, "How many legs has a cat?")
    assert trained.dolly(*arguments, stdin="Legs of a hen?\n/exit\nMore?\n").count("\n\n") < 3


def _wait_for(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 500
    while not list(folder.glob("*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _kill_tree(pid: int) -> None:
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pytest.fail("a process of the training had ended by itself")
