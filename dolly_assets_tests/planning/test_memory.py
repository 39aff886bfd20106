"""Memory formulas against those who should know: DeepSpeed's estimators, and what PyTorch keeps."""

from typing import Any

import pytest

from dolly_assets.planning.memory import (
    activation_bytes_per_token,
    device_memory,
    host_memory,
    model_states,
)
from dolly_assets.planning.model_shape import ModelShape
from dolly_assets_tests.planning.jobs import GIB, GPT_J, recipe

OFFLOAD = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}
OFFLOAD_ALL = {
    "zero_optimization": {
        "offload_optimizer": {"device": "cpu"},
        "offload_param": {"device": "cpu"},
    }
}


# DeepSpeed's estimators know no float32 gradients beside bf16 weights.
BF16_GRADIENTS: dict[str, Any] = {"gradient_precision": "bf16"}


def kept(shape: ModelShape, ranks: int, **changed: Any) -> int:
    """Model states that a GPU holds: the parts of a device's memory that are not the work's."""
    changed = {**BF16_GRADIENTS, **changed}
    states = {part.name: part.size_bytes for part in model_states(shape, recipe(**changed), ranks)}
    parts = device_memory(
        shape, recipe(**changed), ranks=ranks, micro_tokens=0, micro_labels=0, on_gpu=True
    )
    return sum(part.size_bytes for part in parts if part.name in states)


@pytest.mark.parametrize("gpus", [1, 3, 8, 64])
def test_model_states_are_deepspeeds_at_zero_2_and_3(gpus: int) -> None:
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    nodes = max(1, gpus // 8)
    size: dict[str, Any] = {"num_gpus_per_node": gpus // nodes, "num_nodes": nodes}
    _, zero2 = estimate_zero2_model_states_mem_needs(GPT_J.parameters, cpu_offload=False, **size)
    assert kept(GPT_J, gpus, zero_stage=2) == pytest.approx(zero2, rel=0.01)
    _, zero3, largest = estimate_zero3_model_states_mem_needs(
        GPT_J.parameters, GPT_J.largest_layer, cpu_offload=False, cpu_offload_params=False, **size
    )
    # Its estimate for ZeRO 3 leaves out the 16-bit gradients, which that for ZeRO 2 counts.
    assert kept(GPT_J, gpus, zero_stage=3) - 2 * GPT_J.parameters // gpus == pytest.approx(
        zero3 - largest, rel=0.01
    )


@pytest.mark.parametrize("gpus", [1, 8])
@pytest.mark.parametrize("params", [False, True])
def test_offload_moves_what_deepspeed_estimates(gpus: int, params: bool) -> None:
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs

    host, device, largest = estimate_zero3_model_states_mem_needs(
        GPT_J.parameters,
        GPT_J.largest_layer,
        num_gpus_per_node=gpus,
        cpu_offload=True,
        cpu_offload_params=params,
    )
    settings: dict[str, Any] = {"zero_stage": 3, "deepspeed": OFFLOAD_ALL if params else OFFLOAD}
    assert kept(GPT_J, gpus, **settings) == pytest.approx(device - largest, rel=0.01, abs=1)
    parts = {
        part.name: part.size_bytes
        for part in host_memory(
            GPT_J, recipe(**BF16_GRADIENTS, **settings), ranks=gpus, ranks_per_node=gpus
        )
    }
    # DeepSpeed counts 16 bytes for what the optimizer moves, ours also the 2 of the gradients.
    assert host <= parts["offload"] <= 1.15 * host


def test_gpt_j_on_8_gpus_is_what_deepspeed_prints(capsys: pytest.CaptureFixture[str]) -> None:
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs_all_cold

    estimate_zero3_model_states_mem_needs_all_cold(
        GPT_J.parameters, GPT_J.largest_layer, num_gpus_per_node=8
    )
    [line] = [
        line
        for line in capsys.readouterr().out.splitlines()
        if "offload_param=none" in line
        and "offload_optimizer=none" in line
        and "zero_init=1" in line
    ]
    printed = float(line.split("|")[1].strip().removesuffix("GB"))
    gradients = 2 * GPT_J.parameters // 8  # 16-bit ones, which it leaves out
    ours = kept(GPT_J, 8, zero_stage=3) + 4 * GPT_J.largest_layer
    assert (ours - gradients) / GIB == pytest.approx(printed, abs=0.01)
    assert printed < ours / GIB < 1.15 * printed


@pytest.mark.parametrize(("zero_stage", "more"), [(1, 4), (2, 2), (3, 2)])
def test_float32_gradients_take_two_more_bytes_and_four_where_zero_keeps_both(
    zero_stage: int, more: int
) -> None:
    in_bf16, in_fp32 = (
        model_states(GPT_J, recipe(zero_stage=zero_stage, gradient_precision=chosen), 8)[1]
        for chosen in ("bf16", None)
    )
    ranks = 8 if zero_stage >= 2 else 1
    grown = in_fp32.size_bytes - in_bf16.size_bytes
    assert grown == pytest.approx(more * GPT_J.parameters / ranks, rel=1e-6)


def test_every_second_layer_is_recomputed_and_inputs_are_on_the_host_if_asked() -> None:
    def activations(**settings: Any) -> int:
        asked = recipe(gradient_checkpointing=settings)
        parts = device_memory(GPT_J, asked, ranks=1, micro_tokens=1, micro_labels=0, on_gpu=True)
        return next(part.size_bytes for part in parts if part.name == "activations")

    layer = activation_bytes_per_token(GPT_J, recipe())
    inputs = 2 * GPT_J.hidden * GPT_J.layers
    assert activations(every=1) == layer + inputs
    assert activations(every=1, offload=True) == layer
    assert activations(every=2) == layer * (1 + GPT_J.layers // 2) + inputs // 2


def test_logits_in_chunks_do_not_grow_with_the_labels_and_all_at_once_do() -> None:
    def logits(labels: int, **settings: Any) -> int:
        parts = device_memory(
            GPT_J, recipe(**settings), ranks=8, micro_tokens=1, micro_labels=labels, on_gpu=True
        )
        names = ("logits", "output layer's gradient")
        return sum(part.size_bytes for part in parts if part.name in names)

    vocabulary = GPT_J.vocabulary_rows
    assert logits(8192, loss="full") == 2 * logits(4096, loss="full") == 8192 * 10 * vocabulary
    chunk = 2**28 // (4 * vocabulary)
    expected = chunk * 10 * vocabulary + 4 * vocabulary * GPT_J.hidden
    assert logits(8192) == logits(4096) == expected
    assert logits(8192, lora={"rank": 4, "alpha": 8}) == chunk * 10 * vocabulary


@pytest.mark.parametrize("model_type", ["gpt_neox", "llama"])
@pytest.mark.slow
def test_with_lora_only_the_adapter_has_gradients_and_an_optimizer(model_type: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from dolly_assets.training.flops import ModelFlops
    from dolly_assets.training.lora import LoraSettings, add_adapter

    config = AutoConfig.for_model(model_type, num_hidden_layers=2, **SIZES, **MODELS[model_type])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = shape_of(model)
    lora, whole = LoraSettings(rank=3, alpha=6), ModelFlops.of(model)
    adapted = add_adapter(model, lora.model_copy(update={"train_new_tokens": False}), seed=0)
    rows = (1 if shape.tied_embeddings else 2) * 3 * shape.hidden
    trained = adapted.num_parameters(only_trainable=True) + rows
    weights, gradients, optimizer = model_states(
        shape, recipe(**BF16_GRADIENTS, precision="bf16", zero_stage=2, lora=lora), 1
    )
    assert weights.size_bytes == 2 * shape.parameters
    # A matrix of queries, keys and values in one has one companion; planned are three.
    assert 2 * trained <= gradients.size_bytes <= 1.15 * 2 * trained
    assert optimizer.size_bytes == 8 * gradients.size_bytes
    measured, planned = ModelFlops.of(adapted), shape.flops.with_adapter(trained - rows)
    assert whole
    assert measured
    assert measured.of_examples([8], 4) == pytest.approx(planned.of_examples([8], 4), rel=0.01)
    assert (
        2 / 3 * whole.of_examples([8], 4) < measured.of_examples([8], 4) < whole.of_examples([8], 4)
    )


SIZES = {
    "hidden_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 256,
}
NO_DROPOUT: dict[str, Any] = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0}
MODELS: dict[str, dict[str, Any]] = {
    "gpt_neox": {"intermediate_size": 512},
    "gptj": {"rotary_dim": 16, **NO_DROPOUT},
    "gpt2": NO_DROPOUT,
    "llama": {"intermediate_size": 512, "num_key_value_heads": 2},
}


def shape_of(model: Any) -> ModelShape:
    return ModelShape.of(
        model.config.to_dict(),
        parameters=model.num_parameters(),
        vocabulary_rows=SIZES["vocab_size"],
        tied_embeddings=bool(model.config.tie_word_embeddings),
        name=model.config.model_type,
    )


@pytest.mark.parametrize("model_type", MODELS)
def test_activations_are_what_autograd_keeps(model_type: str) -> None:
    """Two models differ by one layer, so that only a layer's tensors are counted, each once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokens = SIZES["max_position_embeddings"]

    def kept_bytes(layers: int) -> tuple[int, ModelShape]:
        config = AutoConfig.for_model(
            model_type, num_hidden_layers=layers, **SIZES, **MODELS[model_type]
        )
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        seen: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = model(torch.zeros(1, tokens, dtype=torch.long), use_cache=False).logits
        total = sum(seen.values())
        del logits
        return total, shape_of(model)

    (one, _), (two, shape) = kept_bytes(1), kept_bytes(2)
    assert shape.gated == (model_type == "llama")
    planned = tokens * activation_bytes_per_token(shape, recipe(precision="fp32"))
    assert planned == pytest.approx(two - one, rel=0.3)
