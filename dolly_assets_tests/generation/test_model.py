import json
import shutil

import pytest

from dolly_assets.core.errors import BaseModelError
from dolly_assets.generation.model import load, pick_device


@pytest.fixture
def folder(weights_folder, tmp_path):
    """A weights folder to damage."""
    return shutil.copytree(weights_folder, tmp_path / "weights")


def test_a_weights_folder_loads_ready_to_generate(weights_folder, tokenizer) -> None:
    import torch

    model, loaded_tokenizer = load(weights_folder, device="cpu")
    assert not model.training
    assert model.dtype == torch.float32
    assert loaded_tokenizer.get_vocab() == tokenizer.get_vocab()
    assert load(weights_folder, dtype="bfloat16", device="cpu")[0].dtype == torch.bfloat16


def test_the_folders_own_sampling_settings_are_left_out(folder) -> None:
    settings = {"do_sample": True, "repetition_penalty": 1.7, "eos_token_id": 3}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model, _ = load(folder, device="cpu")
    assert model.generation_config is not None
    assert model.generation_config.repetition_penalty in (None, 1.0)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_part_is_refused_by_name(folder, name) -> None:
    (folder / name).unlink()
    with pytest.raises(BaseModelError, match=str(folder)):
        load(folder, device="cpu")


def test_a_missing_folder_is_refused_and_never_taken_for_a_name_on_the_hub(tmp_path) -> None:
    with pytest.raises(BaseModelError, match="no such folder"):
        load(tmp_path / "gpt2", device="cpu")


def test_truncated_weights_are_refused(folder) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match="does not load"):
        load(folder, device="cpu")


def test_weights_that_lack_a_tensor_are_refused_by_its_name(folder) -> None:
    """Transformers alone would warn and go on with random numbers."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseModelError, match=r"layers\.1\.mlp\.dense_h_to_4h\.weight"):
        load(folder, device="cpu")


def test_code_in_the_folder_is_refused(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    with pytest.raises(BaseModelError):
        load(folder, device="cpu")
    assert not (folder / "ran").exists()


def test_more_tokens_than_embeddings_are_refused(folder, tokenizer) -> None:
    """They would be read past the end of the table."""
    from transformers import AutoTokenizer

    larger = AutoTokenizer.from_pretrained(folder)
    larger.add_tokens(["one more"])
    larger.save_pretrained(folder)
    with pytest.raises(
        BaseModelError, match=f"has {len(tokenizer) + 1} tokens, the model embeds {len(tokenizer)}"
    ):
        load(folder, device="cpu")


def test_a_device_is_always_found() -> None:
    assert pick_device() in ("cuda", "mps", "cpu")
