"""From a raw dataset to what is trained on: the same input gives the same tables on any machine."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.conversations.tables import prompts
from dolly_assets.core.errors import ConfigurationError, DatasetError
from dolly_assets.tokenization.encode import PromptEncoder
from dolly_assets.tokenization.labels import LabelRuns
from dolly_assets.tokenization.pack import pack
from dolly_assets.tokenization.preview import preview
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.split import held_out_mask
from dolly_assets.tokenization.statistics import describe
from dolly_assets.tokenization.tokenized_dataset import (
    EXAMPLE_SCHEMA,
    HELD_OUT_SCHEMA,
    TEXT_COLUMNS,
    TRAIN_SCHEMA,
    TokenizedDataset,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

# Records that are encoded at once: enough to keep all cores busy, few enough to bound memory.
BATCH_RECORDS = 2_000


def tokenize(
    examples: pa.Table,
    tokenizer: "PreTrainedTokenizerBase",
    style: PromptStyle,
    *,
    max_length: int,
    packing: bool,
    held_out_examples: int,
    seed: int,
) -> TokenizedDataset:
    """Tokenize a raw dataset, hold some of it out, and put the rest into rows.

    Args:
        examples: The string columns instruction, context, response and category.
        tokenizer: A fast tokenizer that has the style's special tokens.
        style: How an example is laid out.
        max_length: Length of the longest row in tokens. Longer examples are dropped and counted,
            never truncated.
        packing: Whether examples share rows; otherwise each is a row of its own.
        held_out_examples: How many examples to hold out, at least; those of one prompt stay
            together.
        seed: Seed of the split.

    Raises:
        ConfigurationError: The tokenizer does not fit the style, or nothing is left to train on.
        DatasetError: A column or a value is missing.
    """
    encoder = PromptEncoder(tokenizer, style)
    encoded = _encode(_checked(examples), encoder)
    kept = encoded.filter(pa.array(_lengths(encoded) <= max_length))
    is_held_out = held_out_mask(
        prompts(kept),
        held_out_examples=held_out_examples,
        seed=seed,
    )
    train = kept.filter(pa.array(~is_held_out)).select(EXAMPLE_SCHEMA.names)
    held_out = kept.filter(pa.array(is_held_out))
    dropped_too_long = encoded.num_rows - kept.num_rows
    if not train.num_rows:
        raise ConfigurationError(
            f"no training example is left: of {encoded.num_rows} examples, {dropped_too_long} are "
            f"longer than max_length {max_length} tokens and {held_out.num_rows} are held out "
            f"(held_out_examples is {held_out_examples}); lower held_out_examples, raise "
            "max_length or add examples"
        )
    train = _in_rows(train, max_length, packing=packing)
    statistics = describe(
        train_lengths=_lengths(train),
        train_labels=LabelRuns.of(train).labelled,
        rows=int(train["row"][-1].as_py()) + 1,
        max_length=max_length,
        held_out_examples=held_out.num_rows,
        dropped_too_long=dropped_too_long,
    )
    statistics["encoder"] = encoder.encoder
    backend: Tokenizer = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
    return TokenizedDataset(train, held_out, statistics, preview(train, backend))


def _in_rows(examples: pa.Table, max_length: int, *, packing: bool) -> pa.Table:
    """Return the examples with their rows, sorted by row."""
    row_of = (
        pack(_lengths(examples), max_length)
        if packing
        else np.arange(examples.num_rows, dtype=np.int32)
    )
    order = np.argsort(row_of, kind="stable")
    return examples.add_column(1, TRAIN_SCHEMA.field("row"), pa.array(row_of)).take(pa.array(order))


def _lengths(table: pa.Table) -> np.ndarray:
    """Return the number of tokens of each example."""
    return pc.list_value_length(table["input_ids"]).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]


def _checked(examples: pa.Table) -> pa.Table:
    """Return the text columns as strings; raise DatasetError if any column or value is missing."""
    missing = [name for name in TEXT_COLUMNS if name not in examples.column_names]
    if missing:
        raise DatasetError(
            f"the raw dataset lacks the columns {missing}; it has {examples.column_names}: map the "
            "source's columns onto instruction, context, response and category"
        )
    texts = examples.select(TEXT_COLUMNS).cast(
        pa.schema([(name, pa.string()) for name in TEXT_COLUMNS])
    )
    for name, column in zip(TEXT_COLUMNS, texts.columns, strict=True):
        if column.null_count:
            record = pc.index(column.is_null(), True).as_py()
            raise DatasetError(
                f"record {record} of the raw dataset has no {name}: expected a string, "
                'or "" where there is none'
            )
    return texts


def _encode(texts: pa.Table, encoder: PromptEncoder) -> pa.Table:
    """Return the texts with record, input_ids and prompt_length."""
    batches, record = [], 0
    for batch in texts.to_batches(max_chunksize=BATCH_RECORDS):
        instructions, contexts, responses, _ = (column.to_pylist() for column in batch.columns)
        input_ids, prompt_length = encoder.examples(instructions, contexts, responses)
        records = pa.array(range(record, record + batch.num_rows), pa.int64())
        batches.append(
            pa.record_batch(
                [records, input_ids, prompt_length, *batch.columns], schema=HELD_OUT_SCHEMA
            )
        )
        record += batch.num_rows
    return pa.Table.from_batches(batches, schema=HELD_OUT_SCHEMA)
