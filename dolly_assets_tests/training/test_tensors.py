"""The digest of a weights folder.

The files are real safetensors files; damage is done to their bytes.
"""

import json
from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.training.checkpoint.tensors import weights_sha256


def tensors() -> dict:
    import torch

    generator = torch.Generator().manual_seed(0)
    return {
        "b.weight": torch.randn(5, 7, generator=generator),
        "a.weight": torch.randn(3, generator=generator).bfloat16(),
        "c.scale": torch.tensor(2.0),
        "d.empty": torch.zeros(0, 4),
        "e.ids": torch.arange(6, dtype=torch.int64),
    }


def save(folder: Path, shards: list[dict], metadata: dict[str, str] | None = None) -> Path:
    from safetensors.torch import save_file

    folder.mkdir()
    for number, shard in enumerate(shards):
        save_file(shard, folder / f"model-{number}.safetensors", metadata=metadata)
    return folder


@pytest.fixture
def whole(tmp_path):
    return save(tmp_path / "whole", [tensors()])


def test_shards_and_metadata_do_not_change_the_digest(tmp_path, whole) -> None:
    items = list(tensors().items())
    shards = [dict(items[:1]), dict(items[1:3]), dict(items[3:])]
    assert weights_sha256(save(tmp_path / "three", shards, {"format": "pt"})) == weights_sha256(
        whole
    )


def test_the_order_of_names_does_not_change_the_digest(tmp_path, whole) -> None:
    items = list(tensors().items())
    reordered = [dict(items[3:]), dict(reversed(items[:3]))]
    assert weights_sha256(save(tmp_path / "reordered", reordered)) == weights_sha256(whole)


def test_a_flipped_bit_changes_the_digest(whole) -> None:
    before = weights_sha256(whole)
    file = whole / "model-0.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert weights_sha256(whole) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda all_: all_ | {"b.weight": all_["b.weight"].reshape(7, 5)},
        lambda all_: all_ | {"a.weight": all_["a.weight"].view(dtype=__import__("torch").float16)},
        lambda all_: {name.replace("e.ids", "e.keys"): tensor for name, tensor in all_.items()},
    ],
    ids=["shape", "dtype", "name"],
)
def test_equal_bytes_under_another_shape_dtype_or_name_have_another_digest(
    tmp_path, whole, change
) -> None:
    assert weights_sha256(save(tmp_path / "other", [change(tensors())])) != weights_sha256(whole)


def test_tensors_larger_than_a_chunk_are_hashed_to_their_end(tmp_path) -> None:
    import torch

    large = torch.zeros(5 << 20, dtype=torch.uint8)
    before = weights_sha256(save(tmp_path / "zeros", [{"large": large}]))
    large[-1] = 1
    assert weights_sha256(save(tmp_path / "one", [{"large": large}])) != before


@pytest.mark.parametrize("kept_bytes", [0, 7, 40, -1])
def test_a_truncated_file_is_named(whole, kept_bytes) -> None:
    file = whole / "model-0.safetensors"
    file.write_bytes(file.read_bytes()[:kept_bytes])
    with pytest.raises(ArtifactError, match=r"model-0\.safetensors"):
        weights_sha256(whole)


def test_a_damaged_header_is_named(whole) -> None:
    file = whole / "model-0.safetensors"
    content = bytearray(file.read_bytes())
    content[8:12] = b"\xff\xff\xff\xff"
    file.write_bytes(content)
    with pytest.raises(
        ArtifactError, match=r"model-0\.safetensors: its safetensors header is damaged"
    ):
        weights_sha256(whole)


def test_a_shard_that_the_index_names_has_to_be_there(whole) -> None:
    index = {"weight_map": {"b.weight": "model-0.safetensors", "z.weight": "model-1.safetensors"}}
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ArtifactError, match=r"shard model-1\.safetensors is missing"):
        weights_sha256(whole)


def test_a_tensor_in_two_files_is_an_error(tmp_path) -> None:
    with pytest.raises(ArtifactError, match=r"'b\.weight' is also in model-0\.safetensors"):
        weights_sha256(save(tmp_path / "twice", [tensors(), {"b.weight": tensors()["b.weight"]}]))


def test_a_folder_without_weights_is_an_error(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="found none"):
        weights_sha256(tmp_path)
