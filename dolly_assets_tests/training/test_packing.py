"""Packed and padded training give the same results, on small models of real architectures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.packing import attention
from dolly_assets.training.packing.batches import (
    MicroBatch,
    PackedRow,
    PackingCollator,
    PaddingCollator,
)
from dolly_assets.training.packing.loss import LabelLoss
from dolly_assets.training.packing.self_check import choose_attention

SIZES = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {"initializer_range": 0.2}  # so that what a token sees matters
NO_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
LLAMA = {**SIZES, **WIDE, "num_key_value_heads": 2, "intermediate_size": 48}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "gpt_neox": {**SIZES, **WIDE, "intermediate_size": 48},
    "gptj": {
        "vocab_size": 300,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "rotary_dim": 4,
        **WIDE,
        **NO_DROPOUT,
    },
    "mistral": {**LLAMA, "sliding_window": 6},
    "gemma2": {**LLAMA, "head_dim": 8},  # caps its scores, which our attention doesn't
    "falcon": {**SIZES, **WIDE},  # takes no attention from outside
    "bloom": {"vocab_size": 300, "hidden_size": 32, "n_layer": 1, "n_head": 4},
    "gpt_oss": {
        **LLAMA,
        "head_dim": 8,
        "num_local_experts": 4,
        "layer_types": ["full_attention"] * 2,
    },
}
WITH_A_MASK = {"gemma2", "falcon"}
LENGTHS = (9, 17, 5, 12)


def model_of(
    architecture: str, packed: attention.PackedAttention | None = None
) -> tuple[Any, LabelLoss]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    packed = packed or attention.PackedAttention()
    packed.register()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(architecture, **CONFIGS[architecture])
    )
    return model, LabelLoss(model, packed)


def rows(*, seed: int = 0) -> list[PackedRow]:
    """Two rows of two examples; the first half of each example is the prompt's."""
    generator = np.random.default_rng(seed)
    tokens = [generator.integers(300, size=length, dtype=np.int32) for length in LENGTHS]
    return [
        PackedRow.with_prompts((one, other), (len(one) // 2, len(other) // 2))
        for one, other in (tokens[:2], tokens[2:])
    ]


def conversations() -> list[PackedRow]:
    """The same rows, with several labelled turns in each example."""
    turns = ([2, 1, 3, 3], [1, 4, 2, 5, 5], [0, 2, 3], [4, 1, 1, 1, 1, 2, 2])
    runs = [np.array(each, dtype=np.int32) for each in turns]
    return [
        PackedRow(row.examples, tuple(of_row), 1)
        for row, of_row in zip(rows(), (runs[:2], runs[2:]), strict=True)
    ]


def each_alone(model: Any, rows: list[PackedRow]) -> tuple[float, Any]:
    """Loss and gradient by plain transformers, one example after the other."""
    import torch

    model.zero_grad()
    total = 0.0
    for row in rows:
        for ids, runs in zip(row.examples, row.label_runs, strict=True):
            tokens = torch.from_numpy(ids.astype(np.int64))
            labels = tokens.clone()
            begin = 0
            for turn, length in enumerate(runs.tolist()):
                labels[begin : begin + length * (turn % 2 == 0)] = -100
                begin += length
            logits = model(input_ids=tokens[None], use_cache=False).logits[0]
            value = torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum")
            value.backward()
            total += value.item()
    return total, torch.cat([weight.grad.flatten() for weight in model.parameters()])


def loss_and_gradient(model: Any, loss: LabelLoss, batch: MicroBatch) -> tuple[float, Any]:
    import torch

    model.zero_grad()
    value = loss.sum(model, batch)
    value.backward()
    return value.item(), torch.cat([weight.grad.flatten() for weight in model.parameters()])


def test_the_loss_of_each_token_leaves_the_sum_and_its_gradient_bit_for_bit_as_they_are() -> None:
    import torch

    model, loss = model_of("gpt_neox")
    found: list[Any] = []
    for collator in (PackingCollator(0, multiple=8), PaddingCollator(0)):
        batch = collator(conversations())
        total, parts = loss.sum_and_parts(model, batch)
        logits = loss.logits(model, batch).float()
        expected = torch.nn.functional.cross_entropy(logits, batch["targets"], reduction="sum")
        assert total.item() == expected.item()
        gradients = [torch.autograd.grad(each, [*model.parameters()]) for each in (total, expected)]
        assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
        assert parts.sum().item() == pytest.approx(total.item())
        assert not parts.requires_grad
        found.append(parts)
    assert torch.allclose(*found, rtol=1e-4)


@pytest.mark.parametrize(
    "architecture", ["llama", "gpt_neox", "gptj", "mistral", "gemma2", "falcon"]
)
@pytest.mark.slow
def test_packed_and_padded_training_have_equal_losses_and_gradients(architecture: str) -> None:
    model, loss = model_of(architecture)
    padded, expected = loss_and_gradient(model, loss, PaddingCollator(0)(rows()))
    chosen = choose_attention(model, loss)
    assert (chosen != attention.NAME) == (architecture in WITH_A_MASK)
    packed, found = loss_and_gradient(model, loss, PackingCollator(0, multiple=8)(rows()))
    assert packed == pytest.approx(padded, rel=2e-6)
    assert (found - expected).norm() < 2e-6 * expected.norm()


@pytest.mark.parametrize(
    "architecture",
    [
        "llama",
        "gpt_neox",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("mistral", "falcon")),
    ],
)
def test_conversations_of_several_labelled_turns_are_trained_as_each_is_alone(
    architecture: str,
) -> None:
    model, loss = model_of(architecture)
    alone, expected = each_alone(model, conversations())
    for packed in (False, True):
        if packed:
            choose_attention(model, loss)
        collator = PackingCollator(0, multiple=8) if packed else PaddingCollator(0)
        found, gradient = loss_and_gradient(model, loss, collator(conversations()))
        assert found == pytest.approx(alone, rel=2e-6)
        assert (gradient - expected).norm() < 3e-6 * expected.norm()


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "gptj", "falcon"])
def test_a_token_sees_no_neighbour_example(architecture: str) -> None:
    model, loss = model_of(architecture)
    choose_attention(model, loss)
    one, other = rows(), rows(seed=1)
    mixed = [
        PackedRow((other[0].examples[0], one[0].examples[1]), one[0].label_runs, 1),
        one[1],
    ]
    model.eval()
    before, after = (loss.logits(model, PackingCollator(0)(each)).detach() for each in (one, mixed))
    changed = one[0].label_runs[0][1]
    assert (before[:changed] - after[:changed]).abs().max() > 0.01
    assert (before[changed:] == after[changed:]).all()


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        (
            "bloom",
            "BloomForCausalLM cannot be trained on packed rows: packed with eager attention: "
            "its forward pass accepts no position_ids",
        ),
        (
            "gpt_oss",
            "requires what it does not support: s_aux; packed with eager attention: in a small "
            r"copy, examples differ from each of them alone: the loss by [\d.]+ %, the gradient "
            r"by [\d.]+ %",
        ),
    ],
)
def test_a_model_that_would_mix_examples_is_refused(architecture: str, reason: str) -> None:
    with pytest.raises(TrainingError, match=rf"{reason}\. Set recipe.packing: false"):
        choose_attention(*model_of(architecture))


class Leaky(attention.PackedAttention):
    """Takes all examples for one."""

    def begin(self, lengths: Sequence[int], device: Any) -> None:
        super().begin([sum(lengths)], device)


def test_keys_and_values_of_shared_heads_are_repeated_as_sdpa_shares_them() -> None:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    torch.manual_seed(0)
    shapes = ((1, 6, 9, 8), (1, 2, 9, 8), (1, 2, 9, 4))
    query, key, value = (torch.randn(shape, requires_grad=True) for shape in shapes)
    shared = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    alike = scaled_dot_product_attention(
        query, *attention.with_all_heads(query, key, value), is_causal=True
    )
    assert torch.allclose(shared, alike, atol=1e-6)
    gradients = [torch.autograd.grad(out.sum(), (key, value)) for out in (shared, alike)]
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(*gradients, strict=True))


def test_attention_that_lets_examples_see_each_other_is_found_out_and_not_used() -> None:
    assert choose_attention(*model_of("llama", Leaky())) == "sdpa"
