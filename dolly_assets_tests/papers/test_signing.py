"""Signatures: what was signed holds, what was changed does not, and OpenSSF's own tool agrees."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets_tests.in_process import dolly, new_variables, refusal
from dolly_assets_tests.papers.keys import make_keys
from dolly_assets_tests.storage.files import flip_a_bit

pytest.importorskip("model_signing")
NAME = "mine/model/01"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return new_variables(tmp_path / "home")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "home" / "store"), tmp_path / "home" / "cache")


@pytest.fixture
def model(store: ArtifactStore, tmp_path: Path) -> Artifact:
    (tmp_path / "tree" / "weights").mkdir(parents=True)
    (tmp_path / "tree" / "weights" / "model").write_bytes(b"weights")
    (tmp_path / "tree" / "note").write_text("note")
    return store.publish(
        NAME, tmp_path / "tree", kind="k", attributes={"score": 0.5}, descriptions=["note"]
    )


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path / "one")


def test_a_signed_artifact_is_verified_and_stays_so_when_published_again(
    variables: dict[str, str], store: ArtifactStore, model: Artifact, keys: tuple[Path, Path]
) -> None:
    key, public = map(str, keys)
    said = refusal(variables, "verify", NAME, "--signature", public)
    assert f"{NAME} with digest {model.digest[:12]} is not signed: run dolly sign" in said
    assert dolly(variables, "sign", NAME, "--key", key).exit_code == 0
    assert "signed by" in dolly(variables, "verify", NAME, "--signature", public).stdout
    made = model.manifest
    store.commit(NAME, made.files, kind=made.kind, attributes=made.attributes)
    assert dolly(variables, "verify", NAME, "--signature", public).exit_code == 0


def test_another_key_does_not_verify(
    variables: dict[str, str], model: Artifact, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    assert dolly(variables, "sign", NAME, "--key", str(keys[0])).exit_code == 0
    _, other = make_keys(tmp_path / "two")
    said = refusal(variables, "verify", NAME, "--signature", str(other))
    assert f"{NAME}: its signature does not hold for {other}" in said


@pytest.mark.parametrize("change", ["score", "extra"])
def test_what_was_changed_since_is_rejected(
    variables: dict[str, str],
    store: ArtifactStore,
    model: Artifact,
    keys: tuple[Path, Path],
    change: str,
    tmp_path: Path,
) -> None:
    key, public = map(str, keys)
    assert dolly(variables, "sign", NAME, "--key", key).exit_code == 0
    made = model.manifest
    if change == "score":
        store.commit(NAME, made.files, kind=made.kind, attributes={"score": 0.9})
        expected = "changed: manifest.json"
    else:  # a description does not change the digest
        (tmp_path / "more").write_text("more")
        extra = store.upload({"more": tmp_path / "more"}, descriptions=["more"])
        store.commit(NAME, [*made.files, *extra], kind=made.kind, attributes=made.attributes)
        expected = "changed: manifest.json, added: more"
    assert expected in refusal(variables, "verify", NAME, "--signature", public)


def test_a_signed_file_that_was_damaged_in_the_store_is_found(
    variables: dict[str, str], model: Artifact, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    key, public = map(str, keys)
    assert dolly(variables, "sign", NAME, "--key", key).exit_code == 0
    flip_a_bit(tmp_path / "home" / "store" / model.manifest.files[-1].blob_key)
    result = dolly(variables, "verify", NAME, "--signature", public)
    assert result.exit_code == 1
    assert f"damaged: {NAME} weights/model" in result.stdout


@pytest.mark.slow
def test_the_tool_of_openssf_verifies_a_fetched_folder(
    variables: dict[str, str], model: Artifact, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    key, public = map(str, keys)
    folder = tmp_path / "fetched"
    assert dolly(variables, "sign", NAME, "--key", key).exit_code == 0
    fetched = dolly(variables, "artifacts", "fetch", NAME, str(folder), "--signature")
    assert fetched.exit_code == 0, fetched.stderr
    tool = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command = [*tool, "--signature", str(folder / "model.sig"), "--public_key", public]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    stated = json.loads((folder / "manifest.json").read_text())
    assert (stated["digest"], stated["attributes"]) == (model.digest, {"score": 0.5})
    (folder / "weights" / "added").write_text("x")
    assert subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_key_that_cannot_be_used_is_refused(
    variables: dict[str, str], model: Artifact, tmp_path: Path, content: str | None
) -> None:
    key = tmp_path / "bad.pem"
    if content:
        key.write_text(content)
    said = refusal(variables, "sign", NAME, "--key", str(key))
    assert f"{key} cannot be used" in said
    assert "expected a PEM file with a key of the curve P-256" in said


def test_options_about_an_artifact_need_one(variables: dict[str, str]) -> None:
    assert "need an artifact" in refusal(variables, "verify", "--replay")
