"""Tiny models with random weights, built from their configs; nothing is downloaded."""

from typing import TYPE_CHECKING

import pytest

from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates.encoder import encoder_for
from dolly_assets.tokenization.templates.template import bundled
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer, with_style

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STYLE = PromptStyle()


def tiny_model(architecture: str, vocabulary_size: int, seed: int = 0) -> "PreTrainedModel":
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {
        "vocab_size": vocabulary_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.3,  # wide, so that random models give different answers
    }
    if architecture == "gpt_neox":
        # Dropout on: a model left in training mode would not score the same twice.
        return GPTNeoXForCausalLM(
            GPTNeoXConfig(**shape, hidden_dropout=0.1, attention_dropout=0.1)
        ).eval()
    return LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2)).eval()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small only lose time to more threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer():
    return with_style(byte_level_tokenizer(), STYLE)


@pytest.fixture(scope="session", params=["gpt_neox", "llama"])
def model(request, tokenizer):
    return tiny_model(request.param, len(tokenizer))


@pytest.fixture(scope="session")
def weights_folder(tokenizer, tmp_path_factory):
    """What a checkpoint's weights/ looks like."""
    folder = tmp_path_factory.mktemp("weights")
    tiny_model("gpt_neox", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tokenizer):
    """The template `dolly`, as a base model without one carries it."""
    return encoder_for(tokenizer, bundled("dolly", STYLE, tokenizer))


@pytest.fixture(scope="session")
def parrot(tokenizer):
    """A model that has learnt by heart to answer "Say NAME." with NAME, for a few names."""
    import torch

    from dolly_assets_tests.generation.examples import PARROTED, held_out

    model = tiny_model("llama", len(tokenizer), seed=1)
    examples = held_out(tokenizer, PARROTED).to_pylist()
    width = max(len(example["input_ids"]) for example in examples)
    input_ids = torch.tensor(
        [e["input_ids"] + [0] * (width - len(e["input_ids"])) for e in examples]
    )
    labels = torch.full_like(input_ids, -100)
    for row, example in enumerate(examples):
        start, end = example["prompt_length"], len(example["input_ids"])
        labels[row, start:end] = input_ids[row, start:end]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=input_ids, labels=labels).loss.backward()
        optimizer.step()
    return model.eval()
