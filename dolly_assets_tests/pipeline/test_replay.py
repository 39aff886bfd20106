"""`dolly verify --replay`: a published epoch is trained again by the worker, from its digests."""

import json
import shutil
from pathlib import Path

import pytest

from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets_tests.home import Home
from dolly_assets_tests.in_process import refusal

EPOCH_2 = "tiny/model_checkpoint/animals/02"
WEIGHTS = "weights/model.safetensors"


@pytest.mark.slow
def test_an_epoch_that_is_trained_again_is_equal(trained: Home) -> None:
    before = sorted((trained.path / "store" / "manifests").rglob("*.json"))
    assert trained.dolly("verify", "tiny/animals/2", "--replay").startswith(
        "equal: epoch 2 gave the same model again"
    )
    assert sorted((trained.path / "store" / "manifests").rglob("*.json")) == before
    assert not [*(trained.path / "scratch").glob("replay-*")]


@pytest.mark.long
@pytest.mark.slow
def test_tensors_that_differ_are_named(trained_copy: Home, tmp_path: Path) -> None:
    store = ArtifactStore(str(trained_copy.path / "store"), trained_copy.path / "cache")
    published = store.latest(EPOCH_2)
    assert published
    name = changed_tensor(published.local_file(WEIGHTS), tmp_path / "changed")
    [changed] = store.upload({WEIGHTS: tmp_path / "changed"})
    made = published.manifest
    files = [changed if entry.path == WEIGHTS else entry for entry in made.files]
    store.commit(EPOCH_2, files, kind=made.kind, inputs=made.inputs, attributes=made.attributes)
    said = trained_copy.dolly("verify", "tiny/animals/2", "--replay", code=1)
    assert f"different: epoch 2 gave another model: tensors {name} (by up to 1)" in said


def changed_tensor(file: Path, out: Path) -> str:
    """Writes weights with 1 added to one value, and returns the tensor's name."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] += 1
    save_file(tensors, out)
    return name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny/animals/0", "was not trained, so nothing can be replayed"),
        ("tiny/evaluation/animals/02", "was not trained, so nothing can be replayed"),
    ],
)
def test_what_was_not_trained_is_not_replayed(trained: Home, name: str, expected: str) -> None:
    assert expected in refusal(trained.variables, "verify", name, "--replay")


def test_an_epoch_whose_state_is_gone_is_not_replayed(trained_copy: Home) -> None:
    policy = trained_copy.path / "policy.yaml"
    rule = {"artifacts": "*/model_checkpoint/*", "folders": {"state": 1}}
    policy.write_text(json.dumps({"grace_hours": 0, "rules": [rule]}))
    trained_copy.dolly("gc", "--policy", str(policy), "--delete", "--only-instance")
    shutil.rmtree(trained_copy.path / "cache")  # a verified copy of the state would do
    said = refusal(trained_copy.variables, "verify", "tiny/animals/2", "--replay")
    assert f"{EPOCH_2} cannot be replayed here: " in said
    assert "state/ was deleted by garbage collection" in said
