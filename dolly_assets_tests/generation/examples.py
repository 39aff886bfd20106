"""Held-out tables for scoring."""

from collections.abc import Sequence

import pyarrow as pa

from dolly_assets.tokenization.encode import PromptEncoder
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_SCHEMA

PARROTED = ("Anna", "Ben", "Clara the second", "Tom")


def held_out(tokenizer, names: Sequence[str], responses: Sequence[str] | None = None) -> pa.Table:
    """ "Say NAME." with NAME as the default response; categories by the length of NAME."""
    responses = responses or names
    instructions = [f"Say {name}." for name in names]
    contexts = [""] * len(names)
    categories = ["long" if len(name) > 4 else "short" for name in names]
    input_ids, prompt_length = PromptEncoder(tokenizer, PromptStyle()).examples(
        instructions, contexts, responses
    )
    rows = pa.array(range(len(names)), pa.int64())
    texts = [
        pa.array(column, pa.string()) for column in (instructions, contexts, responses, categories)
    ]
    return pa.table([rows, input_ids, prompt_length, *texts], schema=HELD_OUT_SCHEMA)
