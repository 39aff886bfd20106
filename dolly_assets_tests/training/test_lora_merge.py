"""Adapters merged tensor by tensor, against peft's own merge of the whole model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.errors import BaseModelError, TrainingError
from dolly_assets.training import lora
from dolly_assets.training.lora import LoraSettings

pytestmark = pytest.mark.slow

SMALL = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0}
LLAMA = {
    **SMALL,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
# GPT-2's matrices are (inputs, outputs), one of them square; GPT-J's output layer has a bias.
MODELS: dict[str, dict[str, Any]] = {
    "tied": {"model_type": "llama", **LLAMA, "tie_word_embeddings": True},
    "untied": {"model_type": "llama", **LLAMA, "tie_word_embeddings": False},
    "transposed": {"model_type": "gpt2", **SMALL, "n_embd": 16, "n_layer": 1, "n_head": 2},
    "biased": {
        "model_type": "gptj",
        **SMALL,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "rotary_dim": 4,
    },
}
ROWS = (62, 63)


def adapter_of(
    config: dict[str, Any], folder: Path, dtype: str, shard: str = "1GB", **settings: Any
) -> Any:
    """A base model in `base/` and an adapter in `adapter/`, trained a little; the model itself."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
        model = model.to(getattr(torch, dtype)).eval()
        if bias := getattr(model.get_output_embeddings(), "bias", None) is not None:
            torch.nn.init.normal_(model.get_output_embeddings().bias)
        assert bias == (config["model_type"] == "gptj")
        model.save_pretrained(folder / "base", max_shard_size=shard)
        adapted = lora.add_adapter(model, LoraSettings(rank=3, alpha=6, **settings), 0, ROWS)
        for name, weight in adapted.named_parameters():
            if "magnitude" in name:
                weight.data *= torch.rand_like(weight) + 0.5  # lengths are positive
            elif weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(folder / "adapter")
    return model


KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "whole layers": {"modules_to_save": ("lm_head",)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_merged_weights_are_pefts_up_to_the_rounding_of_their_type(
    name: str, dtype: str, kind: str, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if kind == "whole layers" and name in ("tied", "transposed"):
        with pytest.raises(TrainingError, match="lm_head shares its weights with another layer"):
            adapter_of(MODELS[name], tmp_path, dtype, **KINDS[kind])
        return
    adapted = adapter_of(MODELS[name], tmp_path, dtype, **KINDS[kind])
    lora.finish(tmp_path / "adapter", tmp_path / "base", merge=True)
    base, ours = (
        AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        for folder in (tmp_path / "base", tmp_path / "adapter" / lora.MERGED)
    )
    onto = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto")
    theirs: Any = PeftModel.from_pretrained(
        onto, tmp_path / "adapter", autocast_adapter_dtype=False
    )
    expected = theirs.merge_and_unload(safe_merge=True).state_dict()
    loaded = lora.with_adapter(base, tmp_path / "adapter").state_dict()
    # peft computes the lengths of DoRA's rows in the weights' own type, and we in float32.
    rounding = torch.finfo(getattr(torch, dtype)).eps * (4 if kind == "dora" else 1)
    for weight, tensor in ours.state_dict().items():
        assert torch.equal(tensor, loaded[weight])
        assert tensor.dtype == expected[weight].dtype
        scale = expected[weight].abs().max()
        assert (tensor - expected[weight]).abs().max() <= rounding * scale, weight
    ids = torch.arange(64)[None]
    with torch.no_grad():
        before, after = adapted(ids).logits, ours(ids).logits
    assert (before - after).abs().max() <= 4 * rounding * before.abs().max()


def test_shards_stay_as_they_are_and_only_one_tensor_at_a_time_is_changed(tmp_path: Path) -> None:
    adapter_of(MODELS["untied"], tmp_path, "bfloat16", shard="2KB")
    lora.finish(tmp_path / "adapter", tmp_path / "base", merge=True)
    before, after = (
        {file.name: file.stat().st_size for file in folder.glob("model*")}
        for folder in (tmp_path / "base", tmp_path / "adapter" / lora.MERGED)
    )
    assert len(before) > 3
    assert after == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "disagree on whether this is DoRA"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"peft_type": "OFT"}, "another type"),
        ({"bias": "all"}, "trained biases"),
    ],
)
def test_adapters_that_compute_otherwise_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    adapter_of(MODELS["tied"], tmp_path, "float32")
    file = tmp_path / "adapter" / lora.ADAPTER_CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(BaseModelError, match=message):
        lora.finish(tmp_path / "adapter", tmp_path / "base", merge=True)


def test_an_adapter_of_another_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    adapter_of(MODELS["tied"], tmp_path, "float32")
    shutil.rmtree(tmp_path / "base")
    adapter_of(MODELS["transposed"], tmp_path / "other", "float32")
    with pytest.raises(BaseModelError, match=r"does not load as an adapter of .* has no model\."):
        lora.finish(tmp_path / "adapter", tmp_path / "other" / "base", merge=True)
    assert not (tmp_path / "adapter" / lora.MERGED).exists()


def test_a_merge_that_the_files_do_not_allow_is_refused_before_training(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from dolly_assets.training.lora.merge import check_mergeable

    adapter_of(MODELS["tied"], tmp_path, "float32")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted = lora.add_adapter(model, LoraSettings(rank=3, alpha=6), 0, ROWS)
    check_mergeable(adapted, tmp_path / "base")
    file = tmp_path / "base" / "model.safetensors"
    save_file({f"old.{name}": tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(TrainingError, match=r"recipe.lora.merge: .* have no model\..*leave merge"):
        check_mergeable(adapted, tmp_path / "base")


def test_a_scale_by_the_square_root_of_the_rank_is_followed(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter_of(MODELS["tied"], tmp_path, "float32")
    file = tmp_path / "adapter" / lora.ADAPTER_CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), "use_rslora": True}))
    ours, onto = (AutoModelForCausalLM.from_pretrained(tmp_path / "base") for _ in range(2))
    theirs: Any = PeftModel.from_pretrained(onto, tmp_path / "adapter")
    expected = theirs.merge_and_unload().state_dict()
    for weight, tensor in lora.with_adapter(ours, tmp_path / "adapter").state_dict().items():
        assert torch.allclose(tensor, expected[weight], atol=1e-6)
