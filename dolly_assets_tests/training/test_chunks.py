"""The loss in chunks is the loss of all logits, on small models of real architectures."""

from typing import Any

import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.lora import LoraSettings, add_adapter
from dolly_assets.training.packing import chunks
from dolly_assets.training.packing.attention import PackedAttention
from dolly_assets.training.packing.batches import PackingCollator, PaddingCollator
from dolly_assets.training.packing.chunks import ChunkedLoss
from dolly_assets.training.packing.layout import Layout
from dolly_assets.training.packing.loss import LabelLoss
from dolly_assets.training.packing.self_check import LayoutTests
from dolly_assets_tests.training.test_packing import LLAMA, NO_DROPOUT, rows

GPT2 = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 4, **NO_DROPOUT}
# The architecture, whether it changes its output layer's logits, and its configuration.
MODELS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "plain": ("llama", False, LLAMA),
    "tied": ("llama", False, {**LLAMA, "tie_word_embeddings": True}),
    "capped": ("gemma2", True, {**LLAMA, "head_dim": 8, "final_logit_softcapping": 5.0}),
    "scaled": ("cohere", True, {**LLAMA, "logit_scale": 0.0625, "eos_token_id": 2}),
    "divided": ("granite", True, {**LLAMA, "logits_scaling": 8.0}),
    "biased": ("gptj", False, {**GPT2, "rotary_dim": 4, "bos_token_id": 1, "eos_token_id": 2}),
    "experts": ("mixtral", False, {**LLAMA, "num_local_experts": 4}),
    "nested": ("opt", False, {**LLAMA, "ffn_dim": 48, "word_embed_proj_dim": 16, "dropout": 0.0}),
}
ADAPTERS: dict[str, dict[str, Any]] = {
    "frozen output layer": {},
    "adapted output layer": {"target_modules": ("q_proj", "lm_head")},
    "rows of new tokens": {"new_tokens": (7, 11)},
}


def model_of(name: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, _, config = MODELS[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config))
    with torch.no_grad():
        for weight in model.parameters():  # a bias is zero as it begins
            weight += 0.05 * torch.randn_like(weight)
    return model


def loss_of(model: Any) -> LabelLoss:
    packed = PackedAttention()
    packed.register()
    return LabelLoss(getattr(model, "get_base_model", lambda: model)(), packed)


def of_all_and_in_chunks(model: Any, batch: Any) -> list[tuple[Any, Any, list[Any]]]:
    """Loss, losses of tokens, and gradients, in two ways."""
    import torch

    found = []
    loss = loss_of(model)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for part in (None, ChunkedLoss(model, rows=5)):
        loss.chunks = part
        total, of_tokens = loss.sum_and_parts(model, batch)
        assert not of_tokens.requires_grad
        gradients = torch.autograd.grad(total * 0.25, trained)
        found.append((total.detach(), of_tokens, gradients))
    return found


def are_equal(found: list[tuple[Any, Any, list[Any]]], tolerance: float) -> bool:
    import torch

    (total, of_tokens, gradients), (chunked, in_chunks, others) = found
    assert [each.dtype for each in gradients] == [each.dtype for each in others]
    one, other = (torch.cat([each.flatten() for each in part]) for part in (gradients, others))
    pairs = [(total, chunked), (of_tokens, in_chunks), (one, other)]
    return all((one - other).norm() <= tolerance * one.norm() for one, other in pairs)


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_all_logits(name: str) -> None:
    model = model_of(name)
    found = of_all_and_in_chunks(model, PaddingCollator(0)(rows()))
    assert are_equal(found, 2e-6)
    assert ChunkedLoss(model).changes_logits == MODELS[name][1]


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_of_the_output_layer_is_trained_as_before(name: str) -> None:
    import torch

    settings = {**ADAPTERS[name]}
    new_tokens = settings.pop("new_tokens", ())
    lora = LoraSettings(rank=2, alpha=4, **settings)
    model = add_adapter(model_of("plain"), lora, 0, new_tokens)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert any("lm_head" in name for name in names) == (name != "frozen output layer")
    found = of_all_and_in_chunks(model, PackingCollator(0)(rows()))
    assert are_equal(found, 5e-6)


def test_gradients_in_16_bits_are_rounded_once() -> None:
    """Sums over chunks are in float32: no farther from float32 than those of all logits."""
    import torch

    model, batch = model_of("plain"), PaddingCollator(0)(rows())
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16().float())
    [(_, _, exact), _] = of_all_and_in_chunks(model, batch)
    [(_, _, full), (_, _, chunked)] = of_all_and_in_chunks(model.bfloat16(), batch)
    off = [
        torch.cat([(one.float() - other).flatten() for one, other in zip(each, exact, strict=True)])
        for each in (full, chunked)
    ]
    assert off[1].norm() <= 1.05 * off[0].norm()


def test_memory_of_a_chunk_does_not_depend_on_the_vocabulary() -> None:
    for vocabulary in (32_000, 151_936, 262_144):
        size = chunks.chunk_rows(vocabulary, "cpu") * vocabulary * 4
        assert 0.9 * 2**26 < size <= 2**26
    assert chunks.chunk_rows(10**9, "cpu") == 1


def test_labels_that_fit_one_chunk_need_none() -> None:
    """Weights stay what they were before there were chunks."""
    model = model_of("plain")
    fitting = chunks.chunk_rows(model.config.vocab_size, "cpu")
    assert not chunks.needs_chunks(model, fitting)
    assert chunks.needs_chunks(model, fitting + 1)


def test_a_model_whose_parts_cannot_be_told_apart_computes_all_logits_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("plain")
    loss = loss_of(model)
    monkeypatch.setattr(type(model), "get_output_embeddings", lambda _: None)
    layout = LayoutTests(model, loss, packing=True).use_chunks(model, Layout(True, "sdpa"))
    assert layout.full_logits == "it has no output layer of its own"
    assert loss.chunks is None


def test_a_model_that_does_something_else_with_its_loss_computes_all_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What follows the output layer differs between a whole forward pass and one of its logits."""
    model = model_of("divided")
    monkeypatch.setattr(ChunkedLoss, "finished", lambda _self, logits: logits)
    layout = LayoutTests(model, loss_of(model), packing=True).use_chunks(
        model, Layout(True, "sdpa")
    )
    assert layout.full_logits.startswith("in a small copy, examples differ")


def test_a_forward_pass_outside_of_the_loss_has_its_logits() -> None:
    import torch

    model = model_of("capped")
    ids = torch.arange(12)[None]
    before = model(input_ids=ids).logits
    loss = loss_of(model)
    loss.chunks = ChunkedLoss(model)
    assert torch.equal(model(input_ids=ids).logits, before)
    batch = PaddingCollator(0)(rows())
    loss.sum(model, batch)
    assert torch.equal(model(input_ids=ids).logits, before)
    with pytest.raises(TrainingError, match="output layer is not called"):
        loss.chunks.of(lambda: before, batch["logits_to_keep"], batch["targets"])
