"""A small Llama that continues sequences of letters, and knows no token that ends one.

LoRA is then asked for something that a base model nearly does: the next three letters, and an end.
"""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pyarrow as pa

from dolly_assets.training.base_model import BaseModelConfig, prepare
from dolly_assets.training.base_model.special_tokens import embedding_rows
from dolly_assets.training.lora.new_tokens import new_token_ids

END, RESPONSE = "### End", "### Response:\n"
SPECIAL_TOKENS = (END, RESPONSE)
ANSWER_TOKENS = 3
_LETTERS = 26
_CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def letter(index: int) -> int:
    """The token of a letter, in the order of the byte-level alphabet."""
    return 70 + index % _LETTERS


def prepared_base(folder: Path, *, tied: bool, spare_rows: bool) -> Path:
    """Train a base model in plain PyTorch, and prepare it for a prompt style."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    untrained = {
        "config": {**_CONFIG, "tie_word_embeddings": tied},
        "vocabulary_size": 320,
        "seed": 1,
    }
    _prepare(folder / "untrained", untrained=untrained, special_tokens=["<s>"])
    model = AutoModelForCausalLM.from_pretrained(folder / "untrained")
    tokenizer = AutoTokenizer.from_pretrained(folder / "untrained")
    rows = embedding_rows(model)
    assert len(tokenizer) + len(SPECIAL_TOKENS) <= rows, "has spare rows"
    if not spare_rows:
        model.resize_token_embeddings(len(tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(150):
            starts = torch.randint(_LETTERS, (16, 1))
            ids = 70 + (starts + torch.arange(12)) % _LETTERS
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(folder / "trained")
    tokenizer.save_pretrained(folder / "trained")
    _prepare(folder / "base", source=str(folder / "trained"), special_tokens=SPECIAL_TOKENS)
    return folder / "base"


def _prepare(out: Path, *, special_tokens: Sequence[str], **config: object) -> None:
    base = BaseModelConfig.model_validate({**config, "license": "apache-2.0"})
    prepare(
        base,
        special_tokens=list(special_tokens),
        texts=lambda: ["a few words"],
        out=out,
        log=lambda _: None,
    )


@cache
def special_ids(base: Path) -> tuple[int, int]:
    """Ids of the end and of the response marker."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    found = new_token_ids(tokenizer, SPECIAL_TOKENS)
    assert found == tuple(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))
    return found[0], found[1]


def prompt(base: Path, start: int) -> list[int]:
    """Four letters and the response marker."""
    return [*(letter(start + at) for at in range(4)), special_ids(base)[1]]


def answer(start: int) -> list[int]:
    """The next three letters."""
    return [letter(start + 4 + at) for at in range(ANSWER_TOKENS)]


def examples(base: Path, count: int) -> pa.Table:
    """Prompts with answers that end."""
    generator = random.Random(5)
    starts = [generator.randrange(_LETTERS) for _ in range(count)]
    rows = [[*prompt(base, at), *answer(at), special_ids(base)[0]] for at in starts]
    return pa.table(
        {
            "row": pa.array(range(count), pa.int32()),
            "input_ids": pa.array(rows, pa.list_(pa.int32())),
            "prompt_length": pa.array([5] * count, pa.int32()),
        }
    )
