"""From a raw dataset to what is trained on. Pure: the same input gives the same tables, on any machine."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.errors import ConfigurationError, DatasetError
from dolly_assets.tokenization.encode import PromptEncoder
from dolly_assets.tokenization.preview import preview
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.split import held_out_mask
from dolly_assets.tokenization.statistics import describe
from dolly_assets.tokenization.tokenized_dataset import (
    HELD_OUT_SCHEMA,
    TEXT_COLUMNS,
    TRAIN_SCHEMA,
    TokenizedDataset,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Rows encoded at once: enough to keep all cores busy, few enough to bound memory.
BATCH_ROWS = 2_000


def tokenize(
    examples: pa.Table,
    tokenizer: "PreTrainedTokenizerBase",
    style: PromptStyle,
    *,
    max_length: int,
    held_out_examples: int,
    seed: int,
) -> TokenizedDataset:
    """Tokenize a raw dataset and hold some of it out.

    Args:
        examples: string columns instruction, context, response, category.
        tokenizer: a fast one that has the style's special tokens.
        style: how an example is laid out.
        max_length: longest example in tokens. Longer ones are dropped and counted, never cut.
        held_out_examples: rows to keep from training, at least; rows of one prompt stay together.
        seed: seed of the split.

    Raises:
        ConfigurationError: the tokenizer does not fit the style, or nothing would remain to train on.
        DatasetError: a column is missing, or a value is.
    """
    encoded = _encode(_checked(examples), PromptEncoder(tokenizer, style))
    kept = encoded.filter(pa.array(_lengths(encoded) <= max_length))
    is_held_out = held_out_mask(
        kept["instruction"].to_pylist(),
        kept["context"].to_pylist(),
        held_out_examples=held_out_examples,
        seed=seed,
    )
    train = kept.filter(pa.array(~is_held_out)).select(TRAIN_SCHEMA.names)
    held_out = kept.filter(pa.array(is_held_out))
    dropped_too_long = encoded.num_rows - kept.num_rows
    if not train.num_rows:
        raise ConfigurationError(
            f"No training example is left: of {encoded.num_rows} examples, {dropped_too_long} are longer "
            f"than max_length {max_length} tokens and {held_out.num_rows} are held out (held_out_examples is "
            f"{held_out_examples}). Lower held_out_examples, raise max_length or add examples."
        )
    statistics = describe(
        train_lengths=_lengths(train),
        train_prompt_lengths=train["prompt_length"].to_numpy(),
        held_out_examples=held_out.num_rows,
        dropped_too_long=dropped_too_long,
    )
    return TokenizedDataset(train, held_out, statistics, preview(train, tokenizer))


def _lengths(table: pa.Table) -> np.ndarray:
    """Tokens per example."""
    return pc.list_value_length(table["input_ids"]).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]


def _checked(examples: pa.Table) -> pa.Table:
    """The text columns, all there, all strings, no nulls."""
    missing = [name for name in TEXT_COLUMNS if name not in examples.column_names]
    if missing:
        raise DatasetError(
            f"The raw dataset has the columns {examples.column_names}; missing is {missing}. "
            "Map the source's columns onto instruction, context, response and category."
        )
    texts = examples.select(TEXT_COLUMNS).cast(pa.schema([(name, pa.string()) for name in TEXT_COLUMNS]))
    for name, column in zip(TEXT_COLUMNS, texts.columns, strict=True):
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py()
            raise DatasetError(
                f'Row {row} of the raw dataset has no {name}; expected a string, "" where there is none.'
            )
    return texts


def _encode(texts: pa.Table, encoder: PromptEncoder) -> pa.Table:
    """Add row, input_ids and prompt_length to every text."""
    batches, row = [], 0
    for batch in texts.to_batches(max_chunksize=BATCH_ROWS):
        instructions, contexts, responses, _ = (column.to_pylist() for column in batch.columns)
        input_ids, prompt_length = encoder.examples(instructions, contexts, responses)
        rows = pa.array(range(row, row + batch.num_rows), pa.int64())
        batches.append(pa.record_batch([rows, input_ids, prompt_length, *batch.columns], schema=HELD_OUT_SCHEMA))
        row += batch.num_rows
    return pa.Table.from_batches(batches, schema=HELD_OUT_SCHEMA)
