"""Tiny models of each architecture with the template `dolly`, as checkpoints publish them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates.template import bundled
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer, with_style

STYLE = PromptStyle()
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # wide, so that random models give different answers
}
ROPE = {"rope_type": "default", "rope_theta": 5000.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt_neox": {
        "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5},
        "tie_word_embeddings": False,
    },
    "llama": {"num_key_value_heads": 2, "rope_parameters": ROPE, "tie_word_embeddings": True},
}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small only lose time to more threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(model_type: str, tokenizer: Any, **config: Any) -> Any:
    """A model with random weights, biases and norms included."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    merged = {**SHAPE, **CONFIGS.get(model_type, {}), **config, "vocab_size": len(tokenizer)}
    merged |= {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **merged)).eval()
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                torch.nn.init.normal_(weight, mean=centre, std=0.2)
    return model


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    found = with_style(byte_level_tokenizer(), STYLE)
    found.chat_template = bundled("dolly", STYLE, found).text
    return found


@pytest.fixture(scope="session")
def weights_of(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes the weights folder of a tiny model."""

    def write(model_type: str, **config: Any) -> Path:
        folder = tmp_path_factory.mktemp(model_type)
        tiny(model_type, tokenizer, **config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write
