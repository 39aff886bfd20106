"""The size of a checkpoint's model: whole weights, or a base model and an adapter."""

from pathlib import Path

from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.model_folders import weights_bytes
from dolly_assets.storage.artifact import Artifact, ArtifactStore


def published(
    store: ArtifactStore, folder: Path, name: str, files: dict[str, int], *inputs: Artifact
) -> Artifact:
    for path, size in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x" * size)
    kind = name.split("/")[1]
    return store.publish(name, folder, kind=kind, inputs=as_inputs(*inputs), made_by={})


def test_a_model_has_the_size_of_its_weights_and_of_an_adapters_base_model(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    weights = {"weights/a.safetensors": 500, "weights/b.safetensors": 11, "weights/tokenizer": 7}
    base = published(store, tmp_path / "1", "tiny/base_model", weights)
    state = {**weights, "state/optimizer": 3000}
    whole = published(store, tmp_path / "2", "tiny/model_checkpoint/animals/01", state, base)
    adapter = {"adapter/adapter_model.safetensors": 13, "state/optimizer": 26}
    low_rank = published(store, tmp_path / "3", "tiny/model_checkpoint/animals/02", adapter, base)
    assert [weights_bytes(store, model) for model in (base, whole, low_rank)] == [511, 511, 524]
