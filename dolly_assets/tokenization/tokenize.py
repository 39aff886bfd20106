"""From a raw dataset to what is trained on: the same input gives the same tables on any machine."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.conversations.tables import (
    CONVERSATION_SCHEMA,
    EXCHANGE_SCHEMA,
    holds_conversations,
    prompts,
)
from dolly_assets.core.errors import ConfigurationError, DatasetError
from dolly_assets.tokenization.encode import PromptEncoder
from dolly_assets.tokenization.labels import LabelRuns
from dolly_assets.tokenization.pack import pack
from dolly_assets.tokenization.preview import preview
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.split import held_out_mask
from dolly_assets.tokenization.statistics import describe
from dolly_assets.tokenization.templates import Labels
from dolly_assets.tokenization.templates.encoder import Encoder, encoder_for
from dolly_assets.tokenization.templates.tables import encode_table, losses
from dolly_assets.tokenization.templates.template import Template, carried
from dolly_assets.tokenization.tokenized_dataset import (
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
    template: Template | None = None,
    labels: Labels | None = None,
) -> TokenizedDataset:
    """Tokenize a raw dataset, hold some of it out, and put the rest into rows.

    Args:
        examples: Conversations, or the string columns instruction, context, response and category.
        tokenizer: A fast tokenizer that has the template's control tokens.
        style: The wording of the template `dolly`.
        max_length: Length of the longest row in tokens. Longer examples are dropped and counted, or
            lose their first turns, but are never truncated within one.
        packing: Whether examples share rows; otherwise each is a row of its own.
        held_out_examples: How many examples to hold out, at least; those of one prompt stay
            together.
        seed: Seed of the split.
        template: How a conversation is laid out; `dolly` if left out.
        labels: Which turns of conversations are trained.

    Raises:
        ConfigurationError: The tokenizer does not fit the style, or nothing is left to train on.
        TemplateError: No label can be proven with the template.
        DatasetError: A column or a value is missing.
    """
    template = template or carried(None, style, tokenizer)
    if template.name == "dolly" and not holds_conversations(examples):
        encoder = PromptEncoder(tokenizer, style)
        kept, lost = _exchanges(examples, encoder, max_length)
    else:
        encoder = encoder_for(tokenizer, template, labels)
        kept, lost = _conversations(examples, encoder, max_length)
    is_held_out = held_out_mask(
        prompts(kept),
        held_out_examples=held_out_examples,
        seed=seed,
    )
    texts = {*EXCHANGE_SCHEMA.names, *CONVERSATION_SCHEMA.names}
    train = kept.filter(pa.array(~is_held_out)).drop_columns(
        [name for name in kept.column_names if name in texts]
    )
    held_out = kept.filter(pa.array(is_held_out))
    dropped_too_long = lost.pop("dropped_too_long")
    if not train.num_rows:
        refused = sum(lost.get("refused", {}).values())
        reasons = "; ".join(lost.get("refused", {}))
        raise ConfigurationError(
            f"no training example is left: of {examples.num_rows} examples, {dropped_too_long} are "
            f"longer than max_length {max_length} tokens and {held_out.num_rows} are held out "
            f"(held_out_examples is {held_out_examples})"
            + (f", and {refused} are refused ({reasons})" if refused else "")
            + "; lower held_out_examples, raise max_length or add examples"
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
    statistics |= {**lost, "encoder": encoder.encoder}
    backend: Tokenizer = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
    return TokenizedDataset(train, held_out, statistics, preview(train, backend))


def _exchanges(
    examples: pa.Table, encoder: PromptEncoder, max_length: int
) -> tuple[pa.Table, dict[str, Any]]:
    """Return single exchanges in Dolly's layout that are not too long, and counts of the others."""
    encoded = _encode(_checked(examples), encoder)
    kept = encoded.filter(pa.array(_lengths(encoded) <= max_length))
    return kept, {"dropped_too_long": encoded.num_rows - kept.num_rows}


def _conversations(
    examples: pa.Table, encoder: Encoder, max_length: int
) -> tuple[pa.Table, dict[str, Any]]:
    """Return what is proven of conversations and not too long, and counts of the others."""
    if not holds_conversations(examples):
        examples = _checked(examples)
    kept, encoded = encode_table(examples, encoder, max_length=max_length)
    return kept, {
        "dropped_too_long": len(encoded.too_long),
        **losses(encoded),
        "template": encoder.template.name,
        "template_digest": encoder.template.digest,
        "template_facts": encoder.facts.as_json(),
    }


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
