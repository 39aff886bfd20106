"""From a raw dataset to what is trained on: the same input gives the same tables on any machine."""

from collections.abc import Iterator
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.conversations.tables import CONVERSATION_SCHEMA, holds_conversations, prompts
from dolly_assets.core.errors import ConfigurationError, DatasetError
from dolly_assets.storage.large_tables import TableWriter, select_rows
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
    EXAMPLE_SCHEMA,
    TEXT_COLUMNS,
    TRAIN_SCHEMA,
    TokenizedDataset,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

# Records that are encoded at once: enough to keep all cores busy, few enough to bound memory.
BATCH_RECORDS = 2_000
# Tokens of a batch of rows, which is in memory as a whole when rows are put in order.
BATCH_TOKENS = 2**24


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
    records = kept["record"].to_numpy()
    is_held_out = held_out_mask(
        _prompts_of(examples, records), held_out_examples=held_out_examples, seed=seed
    )
    held_out = _with_texts(select_rows(kept, np.flatnonzero(is_held_out)), examples)
    train = np.flatnonzero(~is_held_out)
    dropped_too_long = lost.pop("dropped_too_long")
    if not train.size:
        refused = sum(lost.get("refused", {}).values())
        reasons = "; ".join(lost.get("refused", {}))
        raise ConfigurationError(
            f"no training example is left: of {examples.num_rows} examples, {dropped_too_long} are "
            f"longer than max_length {max_length} tokens and {held_out.num_rows} are held out "
            f"(held_out_examples is {held_out_examples})"
            + (f", and {refused} are refused ({reasons})" if refused else "")
            + "; lower held_out_examples, raise max_length or add examples"
        )
    rows = _in_rows(kept, train, max_length, packing=packing)
    statistics = describe(
        train_lengths=_lengths(rows),
        train_labels=LabelRuns.of(rows).labelled,
        rows=int(rows["row"][-1].as_py()) + 1,
        max_length=max_length,
        held_out_examples=held_out.num_rows,
        dropped_too_long=dropped_too_long,
    )
    statistics |= {**lost, "encoder": encoder.encoder}
    backend: Tokenizer = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
    return TokenizedDataset(rows, held_out, statistics, preview(rows, backend))


def _exchanges(
    examples: pa.Table, encoder: PromptEncoder, max_length: int
) -> tuple[pa.Table, dict[str, Any]]:
    """Return single exchanges in Dolly's layout that are not too long, and counts of the others."""
    written, record = TableWriter(EXAMPLE_SCHEMA), 0
    for texts in _checked(examples).to_batches(max_chunksize=BATCH_RECORDS):
        batch = _encode(texts, record, encoder)
        written.write(batch.filter(pa.array(_lengths(batch) <= max_length)))
        record += texts.num_rows
    kept = written.table()
    return kept, {"dropped_too_long": examples.num_rows - kept.num_rows}


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


def _prompts_of(examples: pa.Table, records: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield the prompt of each example that was kept, by the record that it is from."""
    kept = np.bincount(records, minlength=examples.num_rows)
    for prompt, count in zip(prompts(examples), kept, strict=True):
        yield from repeat(prompt, count)


def _with_texts(kept: pa.Table, examples: pa.Table) -> pa.Table:
    """Return examples with the texts of their records."""
    names = TEXT_COLUMNS if not holds_conversations(examples) else CONVERSATION_SCHEMA.names
    texts = select_rows(examples.select(names), kept["record"].to_numpy())
    for name in names:
        kept = kept.append_column(pa.field(name, pa.string()), texts[name].cast(pa.string()))
    return kept


def _in_rows(examples: pa.Table, places: np.ndarray, max_length: int, *, packing: bool) -> pa.Table:
    """Return some examples with their rows, sorted by row; no row is in two batches."""
    lengths = _lengths(examples)[places]
    row_of = pack(lengths, max_length) if packing else np.arange(len(places), dtype=np.int32)
    order = np.argsort(row_of, kind="stable")
    places, row_of, lengths = places[order], row_of[order], lengths[order]
    written: TableWriter | None = None
    for begin, end in pairwise(_bounds(row_of, lengths)):
        rows = pa.array(row_of[begin:end])
        selected = select_rows(examples, places[begin:end])
        batch = selected.add_column(1, TRAIN_SCHEMA.field("row"), rows).to_batches()[0]
        written = written or TableWriter(batch.schema)
        written.write(batch)
    return written.table() if written else examples


def _bounds(row_of: np.ndarray, lengths: np.ndarray) -> list[int]:
    """Return where batches of whole rows with at most BATCH_TOKENS tokens begin, and the end."""
    starts = np.append(np.flatnonzero(np.diff(row_of, prepend=-1)), len(row_of))
    tokens = np.append(0, lengths.cumsum(dtype=np.int64))[starts]
    bounds = [0]
    while bounds[-1] < len(starts) - 1:
        last = np.searchsorted(tokens, tokens[bounds[-1]] + BATCH_TOKENS, side="right") - 1
        bounds.append(max(bounds[-1] + 1, int(last)))
    return starts[bounds].tolist()


def _lengths(table: pa.Table | pa.RecordBatch) -> np.ndarray:
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


def _encode(texts: pa.RecordBatch, first: int, encoder: PromptEncoder) -> pa.RecordBatch:
    """Return some texts, the first of which is record `first`, as examples."""
    instructions, contexts, responses, _ = (column.to_pylist() for column in texts.columns)
    input_ids, prompt_length = encoder.examples(instructions, contexts, responses)
    records = pa.array(range(first, first + texts.num_rows), pa.int64())
    return pa.RecordBatch.from_arrays([records, input_ids, prompt_length], schema=EXAMPLE_SCHEMA)
