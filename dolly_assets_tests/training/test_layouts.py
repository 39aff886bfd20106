"""Which layout of examples is chosen, for which reason, and that it is exact beyond every limit."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dolly_assets.core.errors import BaseModelError, TrainingError
from dolly_assets.training.base_model.check import check
from dolly_assets.training.packing import attention, self_check
from dolly_assets.training.packing.batches import PackedRow, PackingCollator
from dolly_assets.training.packing.expected import ExpectedLayouts, expected_layouts
from dolly_assets.training.packing.layout import Layout, LayoutCollator
from dolly_assets.training.packing.loss import LabelLoss
from dolly_assets.training.packing.miniature import (
    Reach,
    miniature,
    randomize,
    reduced_model,
    smallest_limit,
)
from dolly_assets.training.packing.self_check import choose_layout

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "pad_token_id": 0,
}
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0}
LONGROPE = {**FACTORS, "rope_type": "longrope", "factor": 4.0}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SIZES),
    "chunks": (
        "llama4_text",
        {
            **SIZES,
            "head_dim": 8,
            "attention_chunk_size": 16,
            "intermediate_size_mlp": 48,
            "num_local_experts": 2,
            "layer_types": ["chunked_attention"] * 2,
            "no_rope_layers": [1, 1],
        },
    ),
    "temperature": (  # of layers without rotary positions, by the place in the sequence
        "llama4_text",
        {
            **SIZES,
            "head_dim": 8,
            "attention_chunk_size": 16,
            "floor_scale": 4,
            "intermediate_size_mlp": 48,
            "num_local_experts": 2,
            "layer_types": ["chunked_attention", "full_attention"],
            "no_rope_layers": [1, 0],
        },
    ),
    "longrope": (
        "phi3",
        {
            **SIZES,
            "original_max_position_embeddings": 16,
            "max_position_embeddings": 64,
            "rope_parameters": {**LONGROPE, "original_max_position_embeddings": 16},
        },
    ),
    "dynamic": (
        "llama",
        {
            **SIZES,
            "max_position_embeddings": 16,
            "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
        },
    ),
    "latent": (
        "deepseek_v3",
        {
            **SIZES,
            "num_key_value_heads": 4,
            "moe_intermediate_size": 16,
            "n_routed_experts": 4,
            "n_group": 1,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 12,
            "v_head_dim": 16,
        },
    ),
    "positions": ("gpt2", {"vocab_size": 128, "n_embd": 32, "n_layer": 2, "n_head": 4}),
}
LENGTHS = (5, 40, 9, 25, 33)
BEYOND = Reach(example=40, sequence=112)


def model_of(name: str) -> tuple[Any, LabelLoss]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    packed = attention.PackedAttention()
    packed.register()
    kind, values = CONFIGS[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **values), dtype=torch.float32
    ).eval()
    randomize(model)
    return model, LabelLoss(model, packed)


def rows() -> list[PackedRow]:
    generator = np.random.default_rng(3)
    tokens = [generator.integers(1, 128, size=length, dtype=np.int32) for length in LENGTHS]
    return [
        PackedRow.with_prompts(part, [len(each) // 2 for each in part])
        for part in (tokens[:2], tokens[2:])
    ]


def one_by_one(model: Any) -> tuple[float, Any]:
    """Loss and gradient by plain transformers."""
    import torch

    model.zero_grad()
    total = 0.0
    for row in rows():
        for ids, (prompt, _) in zip(row.examples, row.label_runs, strict=True):
            tokens = torch.from_numpy(ids.astype(np.int64))
            logits = model(input_ids=tokens[None], use_cache=False).logits[0]
            loss = torch.nn.functional.cross_entropy(
                logits[prompt - 1 : -1], tokens[prompt:], reduction="sum"
            )
            loss.backward()
            total += loss.item()
    return total, gradient(model)


def gradient(model: Any) -> Any:
    import torch

    return torch.cat(
        [
            (torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten()
            for weight in model.parameters()
        ]
    )


def check_exact(model: Any, loss: LabelLoss, layout: Layout) -> None:
    model.set_attn_implementation("sdpa")
    expected, expected_gradient = one_by_one(model)
    model.set_attn_implementation(layout.attention)
    collator = LayoutCollator(0, packed=True, multiple=8)
    collator.layout = layout
    model.zero_grad()
    value = loss.sum(model, collator(rows()))
    value.backward()
    assert value.item() == pytest.approx(expected, rel=1e-6)
    off = (gradient(model) - expected_gradient).norm() / expected_gradient.norm()
    assert off < 1e-5


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("llama", "packed with within_examples attention"),
        ("latent", "packed with within_examples attention"),
        ("positions", "packed with within_examples attention"),
        ("chunks", "packed with sdpa attention"),
        ("temperature", "padded with sdpa attention"),
    ],
)
def test_the_layout_that_is_chosen_is_exact_beyond_every_limit(name: str, chosen: str) -> None:
    model, loss = model_of(name)
    layout = choose_layout(model, loss, packing=True, reach=BEYOND)
    assert layout.name == chosen
    check_exact(model, loss, layout)


def test_chunks_that_only_the_mask_knows_are_seen_although_no_example_of_the_test_is_so_long() -> (
    None
):
    model, loss = model_of("chunks")
    model.config.attention_chunk_size = 8192
    layout = choose_layout(model, loss, packing=True, reach=Reach(16384, 16384))
    assert "within_examples attention: in a small copy, examples differ" in layout.refused[0]
    model, loss = model_of("temperature")
    with pytest.raises(TrainingError, match="Llama4ForCausalLM cannot be trained on packed rows: "):
        choose_layout(model, loss, packing=True, required=True, reach=BEYOND)


@pytest.mark.parametrize("name", ["longrope", "dynamic"])
def test_rotary_factors_that_follow_the_longest_neighbour_are_refused_where_examples_get_there(
    name: str,
) -> None:
    model, loss = model_of(name)
    with pytest.raises(TrainingError) as refusal:
        choose_layout(model, loss, packing=True, reach=BEYOND)
    message = str(refusal.value)
    for layout in ("packed with within_examples", "packed with sdpa", "padded with sdpa"):
        assert f"{layout} attention: in a small copy" in message
    assert message.endswith(
        "Set recipe.packing: false and recipe.micro_batch_size: 1, which computes each example "
        "alone"
    )
    alone = choose_layout(model, loss, packing=False, single=True, reach=BEYOND)
    assert not alone.packed
    short = choose_layout(model, loss, packing=True, reach=Reach(example=16, sequence=64))
    assert short.packed
    assert not short.refused


def test_what_another_library_raises_is_a_reason_and_the_next_layout_is_tried() -> None:
    model, _ = model_of("llama")

    class Broken(attention.PackedAttention):
        def __call__(self, *arguments: Any, **named: Any) -> Any:
            raise ValueError("head_size should be a multiple of 8")

    broken = Broken()
    broken.register()
    layout = choose_layout(model, LabelLoss(model, broken), packing=True)
    assert (layout.packed, layout.attention) == (True, "sdpa")
    assert layout.refused == (
        "packed with within_examples attention: ValueError: head_size should be a multiple of 8",
    )


def test_memory_that_is_too_small_is_no_reason_to_try_another_layout() -> None:
    import torch

    model, _ = model_of("llama")

    class Full(attention.PackedAttention):
        def __call__(self, *arguments: Any, **named: Any) -> Any:
            raise torch.OutOfMemoryError("full")

    full = Full()
    full.register()
    with pytest.raises(torch.OutOfMemoryError):
        choose_layout(model, LabelLoss(model, full), packing=True)


@pytest.mark.parametrize("heads", [(24, 16), (20, 20)])
def test_heads_that_flash_attention_does_not_support_are_padded_for_it(
    heads: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checks are repeated here, since they only run on a GPU."""
    import torch
    import torch.nn.attention.varlen as flash

    generator = torch.Generator().manual_seed(0)
    size, value_size = heads
    query, key, value = (
        torch.randn(1, count, 12, width, generator=generator)
        for count, width in ((4, size), (2, size), (2, value_size))
    )
    packed = attention.PackedAttention()
    packed.begin((5, 7), torch.device("cpu"))
    module = torch.nn.Identity()
    expected, _ = packed(module, query, key, value, None)

    def varlen_attn(
        query: Any, key: Any, value: Any, bounds: Any, *_: Any, scale: float, **others: Any
    ) -> Any:
        assert query.shape[-1] == key.shape[-1] == value.shape[-1] <= 256
        assert query.shape[-1] % 8 == 0
        parts = []
        for begin, end in pairwise(bounds.tolist()):
            one = (each[begin:end].transpose(0, 1)[None] for each in (query, key, value))
            parts.append(
                torch.nn.functional.scaled_dot_product_attention(
                    *one, is_causal=True, scale=scale, enable_gqa=others["enable_gqa"]
                )[0].transpose(0, 1)
            )
        return torch.cat(parts)

    monkeypatch.setattr(flash, "varlen_attn", varlen_attn)
    monkeypatch.setattr(attention, "has_flash", lambda device, dtype: True)
    packed._bounds = torch.tensor([0, 5, 12])
    found, _ = packed(module, query, key, value, None)
    assert found.shape == expected.shape == (1, 12, 4, value_size)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not attention.can_flash(query, key, value.double(), 0.0)
    assert not attention.can_flash(query, key, value, 0.1)


@pytest.mark.parametrize(("off", "is_refused"), [(0.0, False), (0.02, False), (0.3, True)])
def test_in_half_precision_rounding_passes_and_a_wrong_scale_does_not(
    off: float, is_refused: bool
) -> None:
    """Log-probabilities that are off by a third of a nat were within the tolerance once."""
    import torch

    generator = torch.Generator().manual_seed(0)
    alone = 5 * torch.randn(21, 500, generator=generator)
    found = (alone + off * torch.randn(alone.shape, generator=generator)).bfloat16().float()
    beside = found.clone()
    beside[:6] += torch.randn(6, 500, generator=generator)
    eps = torch.finfo(torch.bfloat16).eps
    compare = lambda: self_check._compare(alone, found, beside, first=6, eps=eps, loosely=True)  # noqa: E731
    if is_refused:
        with pytest.raises(TrainingError, match="other logits than alone"):
            compare()
    else:
        compare()


def test_a_small_copy_has_every_limit_below_the_lengths_of_the_test() -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model("llama4_text")
    small = miniature(config)
    assert small.attention_chunk_size == 8
    assert set(small.layer_types) == set(config.layer_types)
    assert small.num_hidden_layers == len(small.layer_types) <= 8
    within = miniature(config, Reach(example=2048, sequence=4096))
    assert within.attention_chunk_size == 192
    between = miniature(config, Reach(example=8192, sequence=16384))
    assert between.attention_chunk_size == 64
    model = reduced_model(config, _class_of(config))
    assert model.num_parameters() < 2_000_000
    assert smallest_limit(config) == 8192


def _class_of(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM._model_mapping[type(config)]


def test_preparing_finds_the_layouts_that_a_plan_states() -> None:
    model, _ = model_of("temperature")
    found = expected_layouts(model)
    assert (found.limit, found.within, found.beyond) == (4, "packed", "padded")
    assert "packed with within_examples attention: in a small copy" in found.reason
    assert (found.of(4), found.of(5)) == ("packed", "padded")
    assert ExpectedLayouts.model_validate_json(found.model_dump_json()) == found


def test_rows_that_are_packed_are_padded_where_that_is_what_is_exact() -> None:
    collator = LayoutCollator(0, packed=True)
    assert collator(rows())["input_ids"].shape == (1, sum(LENGTHS))
    collator.layout = Layout(packed=False, attention="sdpa", refused=("packed: no",))
    batch = collator(rows())
    assert batch["input_ids"].shape == (len(LENGTHS), max(LENGTHS))
    packed = PackingCollator(0)(rows())
    assert batch["targets"].tolist() == packed["targets"].tolist()
    assert batch["global_labels"] == packed["global_labels"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_base_with_damaged_weights_is_refused_as_that(value: float) -> None:
    import torch

    model, _ = model_of("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = value
    with pytest.raises(
        BaseModelError,
        match=r"base: damaged weights: 1 of the 1,536 values of model\.layers\.1\.mlp\.up_proj\."
        r"weight are NaN or infinite; download or export the model again",
    ):
        check(model, "base")


def test_a_configuration_that_builds_and_cannot_run_is_refused_as_that() -> None:
    import torch

    model, _ = model_of("llama")
    model.model.norm = torch.nn.LayerNorm(7)
    with pytest.raises(BaseModelError, match="builds a LlamaForCausalLM that cannot run on tokens"):
        check(model, "base")
    model, _ = model_of("llama")
    check(model, "base")
