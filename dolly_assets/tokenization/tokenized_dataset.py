"""A tokenized dataset: what is trained on and scored with, and its form on disk."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

TRAIN_FILE = "train.arrow"
HELD_OUT_FILE = "held_out.arrow"
STATISTICS_FILE = "statistics.json"
PREVIEW_FILE = "preview.md"

EXAMPLE_SCHEMA = pa.schema(
    {
        "record": pa.int64(),  # index in the raw dataset
        "input_ids": pa.list_(pa.int32()),
        # The tokens before the last labelled turn. Without a column `label_runs`, which
        # `dolly_assets.tokenization.labels` describes, the input_ids after them are labelled.
        "prompt_length": pa.int32(),
    }
)
# A row is one sequence of the model: one or several examples, one after the other.
TRAIN_SCHEMA = EXAMPLE_SCHEMA.insert(1, pa.field("row", pa.int32()))
# With the texts, so that answers can be checked; those of conversations are of
# CONVERSATION_SCHEMA.
TEXT_COLUMNS = ("instruction", "context", "response", "category")
HELD_OUT_SCHEMA = pa.schema([*EXAMPLE_SCHEMA, *((name, pa.string()) for name in TEXT_COLUMNS)])


@dataclass(frozen=True)
class TokenizedDataset:
    """The two sides of the split, with statistics and a preview.

    Attributes:
        train: An example per line, with the columns of TRAIN_SCHEMA, and LABEL_RUNS where other
            tokens are labelled than those after the prompt; sorted by row (0, 1, …) and within it
            by record, so that a row is a slice.
        held_out: An example per line, with the columns of HELD_OUT_SCHEMA, or of EXAMPLE_SCHEMA,
            LABEL_RUNS and CONVERSATION_SCHEMA, in the order of the raw dataset; none of its prompts
            occurs in `train`.
        statistics: The result of `dolly_assets.tokenization.statistics.describe`.
        preview: Markdown of `dolly_assets.tokenization.preview`.
    """

    train: pa.Table
    held_out: pa.Table
    statistics: dict[str, Any]
    preview: str

    def write(self, folder: Path) -> None:
        """Write `train.arrow`, `held_out.arrow`, `statistics.json` and `preview.md`."""
        folder.mkdir(parents=True, exist_ok=True)
        _write_arrow(self.train, folder / TRAIN_FILE)
        _write_arrow(self.held_out, folder / HELD_OUT_FILE)
        (folder / STATISTICS_FILE).write_text(
            json.dumps(self.statistics, indent=2) + "\n", encoding="utf-8"
        )
        (folder / PREVIEW_FILE).write_text(self.preview + "\n", encoding="utf-8")


def _write_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
