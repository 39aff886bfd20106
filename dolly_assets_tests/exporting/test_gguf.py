"""GGUF files of tiny models, judged by transformers' reader and by llama.cpp."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.conversations import Conversation
from dolly_assets.core.errors import ConfigurationError, DollyError
from dolly_assets.exporting import Export, ExportedModel
from dolly_assets.exporting.exporter import Exporter
from dolly_assets.exporting.gguf_file import write_file
from dolly_assets_tests.exporting.conftest import ROPE, tiny

pytestmark = pytest.mark.slow

QUESTIONS = ("Name a colour of the sky.", "Tell me a story.", "Is it hot?", "one, two")
HEADS = {"num_key_value_heads": 2, "rope_parameters": ROPE}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 5e3,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
GEMMA_3 = {"full_attention": ROPE, "sliding_attention": {**ROPE, "rope_theta": 700.0}}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"attention_bias": True}),
    "llama-untied": ("llama", {"tie_word_embeddings": False}),
    "llama-3": ("llama", {"rope_parameters": LLAMA_3}),
    "mistral": ("mistral", {**HEADS, "sliding_window": 128}),
    "qwen2": ("qwen2", {**HEADS, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**HEADS, "head_dim": 128}),
    "gemma": ("gemma", {**HEADS, "head_dim": 8}),
    "gemma2": (
        "gemma2",
        {**HEADS, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16},
    ),
    "gemma3": (
        "gemma3_text",
        {
            "num_key_value_heads": 2,
            "rope_parameters": GEMMA_3,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 16,
            "num_hidden_layers": 6,
        },
    ),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neox-tied": ("gpt_neox", {"tie_word_embeddings": True, "use_parallel_residual": False}),
}
READ_BY_TRANSFORMERS = ("llama", "llama-untied", "qwen2", "qwen3", "gemma2")


def asked() -> list[Conversation]:
    return [Conversation.of_exchange(question, "", "", "").prompt for question in QUESTIONS]


@pytest.mark.parametrize("name", READ_BY_TRANSFORMERS)
def test_transformers_reads_the_same_tensors(
    name: str, weights_of: Callable[..., Path], tokenizer: Any, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    kind, config = MODELS[name]
    if name == "llama":
        config = {}  # transformers' reader has no biases
    weights = weights_of(kind, **config)
    write_file(ExportedModel(weights, template="dolly"), weights, tmp_path / "m.gguf", "f32")
    expected: Any = AutoModelForCausalLM.from_pretrained(weights)
    read: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="m.gguf", dtype=torch.float32
    )
    tensors = dict(read.named_parameters())
    for key, weight in expected.named_parameters():
        assert torch.allclose(tensors[key], weight, rtol=0, atol=0 if "gemma" not in name else 1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_answers_as_the_model_does(
    name: str, weights_of: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp")
    kind, config = MODELS[name]
    model = ExportedModel(weights_of(kind, **config), template="dolly")
    settings = Export(formats=("gguf",), quantize="f32", max_new_tokens=24)
    read, theirs = Exporter(model, settings, asked()).export("gguf", tmp_path)
    assert read.must_be_equal
    assert read.equal == read.prompts == 4
    assert theirs.equal >= 3, theirs.sentence  # near ties may go either way


@pytest.mark.parametrize(("quantize", "most"), [("f16", 1e-3), ("q8_0", 0.05)])
def test_a_rounded_file_states_what_it_lost(
    quantize: Any, most: float, weights_of: Callable[..., Path], tmp_path: Path
) -> None:
    weights = weights_of("gpt_neox", initializer_range=0.05)
    model = ExportedModel(weights, template="dolly")
    settings = Export(formats=("gguf",), quantize=quantize, max_new_tokens=24)
    read = Exporter(model, settings, asked()).export("gguf", tmp_path)[0]
    assert not read.must_be_equal
    assert read.distance is not None
    assert 0 < read.distance < most
    assert read.passed


@pytest.mark.parametrize(
    ("kind", "config", "found"),
    [
        ("gpt2", {"n_layer": 1, "n_head": 2, "n_embd": 16}, "architecture gpt2 cannot be written"),
        ("llama", {"hidden_act": "relu"}, "the activation relu"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rotary embeddings of the type dynamic",
        ),
        ("gemma2", {"query_pre_attn_scalar": 99}, "query_pre_attn_scalar 99"),
    ],
)
def test_what_llama_cpp_lacks_is_refused_by_name(
    kind: str, config: dict[str, Any], found: str, weights_of: Callable[..., Path], tmp_path: Path
) -> None:
    weights = weights_of(kind, **config)
    with pytest.raises(ConfigurationError, match=found):
        write_file(ExportedModel(weights), weights, tmp_path / "m.gguf", "f16")
    assert not (tmp_path / "m.gguf").exists()


def test_a_value_that_float16_cannot_hold_is_refused(
    weights_of: Callable[..., Path], tokenizer: Any, tmp_path: Path
) -> None:
    import torch

    weights = weights_of("llama")
    model = tiny("llama", tokenizer)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = 7e4
    model.save_pretrained(weights)
    with pytest.raises(ConfigurationError, match=r"blk\.1\.ffn_up\.weight has a value of 70000"):
        write_file(ExportedModel(weights), weights, tmp_path / "m.gguf", "f16")


def test_llama_cpp_that_cannot_load_a_file_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    from dolly_assets.exporting import llama_cpp

    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(DollyError, match=r"llama\.cpp does not load m\.gguf"):
        llama_cpp.answers(tmp_path / "m.gguf", [[1, 2]], max_new_tokens=2)
