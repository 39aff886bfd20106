"""The sizes of a tokenized dataset: its rows, their tokens and labels, and the examples in them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.tokenization.labels import LabelRuns


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a tokenized split; `dolly_assets.training.packing.batches` defines a row.

    Attributes:
        row_tokens: Tokens of each row.
        row_labels: Labelled tokens of each row.
        lengths: Tokens of each example.
        row_examples: Number of examples of each row; None if it is not known.
        row_longest: Tokens of the longest example of each row; None if they are not known.
    """

    row_tokens: np.ndarray
    row_labels: np.ndarray
    lengths: np.ndarray
    row_examples: np.ndarray | None = None
    row_longest: np.ndarray | None = None

    @classmethod
    def of(cls, train: pa.Table) -> Self:
        """Count a table with the columns of a training split, row contiguous."""
        lengths = pc.list_value_length(train["input_ids"]).to_numpy().astype(np.int64)  # pyright: ignore[reportAttributeAccessIssue]
        labels = LabelRuns.of(train).predicted
        starts = np.flatnonzero(np.diff(train["row"].to_numpy(), prepend=-1))
        return cls(
            row_tokens=np.add.reduceat(lengths, starts),
            row_labels=np.add.reduceat(labels, starts),
            lengths=lengths,
            row_examples=np.diff(np.append(starts, len(lengths))),
            row_longest=np.maximum.reduceat(lengths, starts),
        )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.row_tokens)

    def steps(self, global_batch_size: int) -> int:
        """Return the optimizer steps of an epoch; rows that fill no global batch are left out."""
        return self.rows // global_batch_size

    def share_trained(self, global_batch_size: int) -> float:
        """Return the share of the rows that an epoch trains on."""
        return self.steps(global_batch_size) * global_batch_size / self.rows

    def largest_micro_batch(
        self, micro_batch_size: int, *, padded: bool = False
    ) -> tuple[int, int]:
        """Return the most tokens and the most labels of a micro-batch of shuffled rows.

        The two maxima may come from different micro-batches.

        Args:
            micro_batch_size: Rows per micro-batch.
            padded: Whether each example is a sequence, padded to the longest of its micro-batch.
        """
        order = np.random.default_rng(0).permutation(self.rows)
        starts = np.arange(0, self.rows, micro_batch_size)
        tokens = np.add.reduceat(self.row_tokens[order], starts)
        labels = np.add.reduceat(self.row_labels[order], starts)
        if padded and self.row_examples is not None and self.row_longest is not None:
            examples = np.add.reduceat(self.row_examples[order], starts)
            tokens = examples * np.maximum.reduceat(self.row_longest[order], starts)
        return int(tokens.max()), int(labels.max())
