"""What is trained on and scored with, as tables of token ids, and its form on disk."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from dolly_assets.core.errors import DatasetError

EXAMPLE_SCHEMA = pa.schema(
    {
        "record": pa.int64(),  # index in the raw dataset
        "input_ids": pa.list_(pa.int32()),
        "prompt_length": pa.int32(),  # labels are input_ids from here on, -100 before
    }
)
# A row is what one sequence of the model holds: one or several examples, one after the other.
TRAIN_SCHEMA = EXAMPLE_SCHEMA.insert(1, pa.field("row", pa.int32()))
# The texts too, so that answers can be checked.
TEXT_COLUMNS = ("instruction", "context", "response", "category")
HELD_OUT_SCHEMA = pa.schema([*EXAMPLE_SCHEMA, *((name, pa.string()) for name in TEXT_COLUMNS)])


@dataclass(frozen=True)
class TokenizedDataset:
    """The two sides of the split, with what there is to say about them.

    Attributes:
        train: columns of TRAIN_SCHEMA, an example each, sorted by row (0, 1, …) and in it by
            record: a row is a slice.
        held_out: columns of HELD_OUT_SCHEMA, in raw order; no prompt of it occurs in `train`.
        statistics: see `dolly_assets.tokenization.statistics.describe`.
        preview: Markdown, see `dolly_assets.tokenization.preview`.
    """

    train: pa.Table
    held_out: pa.Table
    statistics: dict[str, Any]
    preview: str

    def write(self, folder: Path) -> None:
        """Write `train.arrow`, `held_out.arrow`, `statistics.json` and `preview.md`."""
        folder.mkdir(parents=True, exist_ok=True)
        _write_arrow(self.train, folder / "train.arrow")
        _write_arrow(self.held_out, folder / "held_out.arrow")
        (folder / "statistics.json").write_text(
            json.dumps(self.statistics, indent=2) + "\n", encoding="utf-8"
        )
        (folder / "preview.md").write_text(self.preview + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        The tables are memory-mapped: they take no memory until they are used.

        Raises:
            DatasetError: a file is missing or is not what `write` writes.
        """
        try:
            return cls(
                train=_read_arrow(folder / "train.arrow", TRAIN_SCHEMA),
                held_out=_read_arrow(folder / "held_out.arrow", HELD_OUT_SCHEMA),
                statistics=json.loads((folder / "statistics.json").read_text(encoding="utf-8")),
                preview=(folder / "preview.md").read_text(encoding="utf-8").removesuffix("\n"),
            )
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{folder} does not hold a tokenized dataset: {error}. Materialize tokenized_dataset again."
            ) from error


def _write_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def _read_arrow(path: Path, schema: pa.Schema) -> pa.Table:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    if table.schema != schema:
        raise DatasetError(
            f"{path} has the columns {table.schema.names}; expected {schema.names} of known types."
        )
    return table
