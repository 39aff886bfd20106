"""Encoded conversations as the columns of a tokenized dataset. It knows tables, not templates."""

from typing import Any

import numpy as np
import pyarrow as pa

from dolly_assets.conversations import tables
from dolly_assets.core.errors import some_of
from dolly_assets.storage.large_tables import TableWriter
from dolly_assets.tokenization.labels import LABEL_RUNS
from dolly_assets.tokenization.templates.encoder import EncodedConversations, Encoder
from dolly_assets.tokenization.templates.proof import Ids
from dolly_assets.tokenization.tokenized_dataset import EXAMPLE_SCHEMA

_SCHEMA = EXAMPLE_SCHEMA.append(LABEL_RUNS)
SHOWN_RECORDS = 10
"""How many records statistics name for each reason of a refusal."""


def encode_table(
    examples: pa.Table, encoder: Encoder, *, max_length: int
) -> tuple[pa.Table, EncodedConversations]:
    """Encode the conversations of a table.

    Args:
        examples: Conversations or single exchanges.
        encoder: The encoder.
        max_length: Tokens of the longest example.

    Returns:
        An example per line with the columns of EXAMPLE_SCHEMA, and LABEL_RUNS where other tokens
        are labelled than those after the prompt; and what became of the others.
    """
    written, left_out = TableWriter(_SCHEMA), EncodedConversations()
    has_other_labels = False
    conversations = tables.conversations(examples)
    for batch in encoder.batches(conversations, max_length=max_length):
        found, batch.examples = batch.examples, []
        left_out.add(batch)
        if found:
            written.write(_batch(found))
            has_other_labels |= any(_has_other_labels(ids) for _, ids in found)
    table = written.table()
    return table if has_other_labels else table.drop_columns([LABEL_RUNS.name]), left_out


def _batch(examples: list[tuple[int, Ids]]) -> pa.RecordBatch:
    ids = [each for _, each in examples]
    columns = [
        pa.array([record for record, _ in examples], pa.int64()),
        _lists([each.input_ids for each in ids]),
        pa.array([each.prompt_length for each in ids], pa.int32()),
        _lists([np.array(each.runs, np.int32) for each in ids]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)


def losses(encoded: EncodedConversations) -> dict[str, Any]:
    """Return what was left out, for statistics: counts by reason, and the first records of each."""
    refused = sorted(encoded.refused.items(), key=lambda item: -len(item[1]))
    return {
        "refused": {reason: len(records) for reason, records in refused},
        "refused_records": {reason: records[:SHOWN_RECORDS] for reason, records in refused},
        "too_long_records": encoded.too_long[:SHOWN_RECORDS],
        "shortened": len(encoded.shortened),
        "shortened_records": encoded.shortened[:SHOWN_RECORDS],
    }


def describe_losses(statistics: dict[str, Any]) -> list[str]:
    """Return the lines that state what `losses` counts."""
    lines = [
        f"not trained on: {statistics['refused'][reason]:,} conversations, since {reason}: "
        f"records {some_of([*map(str, records)], SHOWN_RECORDS)}"
        for reason, records in statistics.get("refused_records", {}).items()
    ]
    if shortened := statistics.get("shortened"):
        lines.append(f"shortened to their last turns, as too long: {shortened:,} conversations")
    if dropped := statistics["dropped_too_long"]:
        lines.append(f"dropped as too long: {dropped:,}")
    return lines


def _has_other_labels(ids: Ids) -> bool:
    return ids.spans != ((ids.prompt_length, len(ids.input_ids)),)


def _lists(values: list[np.ndarray]) -> pa.ListArray:
    offsets = np.append(0, np.cumsum([len(each) for each in values])).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, np.concatenate(values).astype(np.int32))
