"""Which tokens of an example are labelled: runs of tokens, in turn unlabelled and labelled.

Where a table has no runs of its own, what follows the prompt is labelled: so tables of single
exchanges, and their digests, need none. It knows tables of lengths, not texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.core.errors import DatasetError

LABEL_RUNS = pa.field("label_runs", pa.list_(pa.int32()))
"""The column: tokens of each run of an example, the first unlabelled and perhaps of length 0. The
runs of an example have as many tokens as `input_ids`."""


@dataclass(frozen=True)
class LabelRuns:
    """The runs of several examples.

    Attributes:
        values: Tokens of each run, of all examples one after the other (int32).
        offsets: Where each example's runs begin in `values`, and where the last one's end.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """Return the runs of a table with input_ids, and label_runs or prompt_length.

        Raises:
            DatasetError: The runs of an example have another number of tokens than its ids.
        """
        lengths = pc.list_value_length(table["input_ids"]).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
        if LABEL_RUNS.name not in table.column_names:
            prompts = table["prompt_length"].to_numpy()
            values = np.column_stack([prompts, lengths - prompts]).ravel().astype(np.int32)
            return cls(values, np.arange(0, values.size + 1, 2))
        column = table[LABEL_RUNS.name].combine_chunks()
        offsets = column.offsets.to_numpy()
        runs = cls(column.values.to_numpy()[offsets[0] : offsets[-1]], offsets - offsets[0])
        runs._check(lengths)
        return runs

    def _check(self, lengths: np.ndarray) -> None:
        of_runs = np.append(0, self.values.cumsum(dtype=np.int64))[self.offsets]
        differing = np.flatnonzero(np.diff(of_runs) != lengths)
        if differing.size:
            first = int(differing[0])
            raise DatasetError(
                f"example {first} of the tokenized dataset has {int(lengths[first])} token ids and "
                f"label_runs {self[first].tolist()}: the runs must have as many tokens; "
                "materialize tokenized_dataset again"
            )

    def __getitem__(self, example: int) -> np.ndarray:
        return self.values[self.offsets[example] : self.offsets[example + 1]]

    @property
    def labelled(self) -> np.ndarray:
        """Labelled tokens of each example."""
        return self._sums(np.where(self._is_labelled, self.values, 0))

    @property
    def predicted(self) -> np.ndarray:
        """Labelled tokens of each example that the loss counts: nothing predicts a first token."""
        starts = self.offsets[:-1]
        begins_labelled = (self.values[starts] == 0) & (self.labelled > 0)
        return self.labelled - begins_labelled

    @property
    def turns(self) -> np.ndarray:
        """Runs of labelled tokens of each example."""
        return self._sums(self._is_labelled & (self.values > 0))

    @property
    def _is_labelled(self) -> np.ndarray:
        counts = np.diff(self.offsets)
        return (np.arange(self.values.size) - self.offsets[:-1].repeat(counts)) % 2 == 1

    def _sums(self, of_runs: np.ndarray) -> np.ndarray:
        return np.add.reduceat(of_runs.astype(np.int64), self.offsets[:-1])


def token_mask(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Return whether each token of several examples is labelled, one example after the other.

    The first token of each example is not, since nothing predicts it.
    """
    values = np.concatenate(runs)
    counts = np.array([len(each) for each in runs])
    firsts = counts.cumsum() - counts
    is_labelled = (np.arange(values.size) - firsts.repeat(counts)) % 2 == 1
    mask = is_labelled.repeat(values)
    mask[(values.cumsum() - values)[firsts]] = False
    return mask
