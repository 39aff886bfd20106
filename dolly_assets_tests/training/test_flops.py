"""Operations are counted for every kind of architecture, or not at all; experts as many as work."""

from typing import Any

import pytest

from dolly_assets.training.flops import ModelFlops, inactive_weights

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def model_of(kind: str, **values: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))


def test_of_a_mixture_only_the_experts_that_a_token_passes_count() -> None:
    model = model_of("mixtral", **SIZES, **HEADS, num_local_experts=8, num_experts_per_tok=2)
    experts = 2 * 8 * 3 * 32 * 48  # layers, experts, matrices
    others = sum(weight.numel() for weight in model.parameters()) - experts - 2 * 64 * 32
    flops = ModelFlops.of(model)
    assert flops
    assert flops.body_weights == others + experts // 4
    assert inactive_weights(model) == experts * 3 // 4
    assert flops.attention_width == 2 * 32


def test_of_a_dense_model_all_weights_count() -> None:
    model = model_of("llama", **SIZES, **HEADS)
    assert inactive_weights(model) == 0
    flops = ModelFlops.of(model)
    assert flops
    assert flops.head_weights == 64 * 32


def test_layers_with_other_heads_each_and_layers_without_any_are_counted() -> None:
    """Their configurations have no number of heads, or raise an error of their own for it."""
    model = model_of(
        "gemma4_text",
        **SIZES,
        **HEADS,
        head_dim=8,
        global_head_dim=8,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=64,
        layer_types=["sliding_attention", "full_attention"],
        num_kv_shared_layers=0,
    )
    assert ModelFlops.of(model)
    state_space = ModelFlops.of(
        model_of("mamba", vocab_size=64, hidden_size=32, num_hidden_layers=2)
    )
    assert state_space
    assert state_space.attention_width == 0


def test_an_architecture_that_cannot_be_counted_does_not_end_a_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("llama", **SIZES, **HEADS)

    def unknown() -> Any:
        raise NotImplementedError

    monkeypatch.setattr(model, "get_input_embeddings", unknown)
    assert ModelFlops.of(model) is None
