"""From the rows of a tokenized dataset to micro-batches: inputs and labels of a model.

The row is the unit of order and of batches: one or several examples that share a sequence. The
module knows nothing of models.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, Self, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.tokenization.labels import LabelRuns, token_mask

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PackedRow:
    """One row of the dataset.

    Attributes:
        examples: Token ids of each example (int32, one dimension).
        label_runs: Runs of each example's tokens, in turn unlabelled and labelled (int32).
        global_labels: Labelled tokens of the global batch that the row belongs to, over all ranks.
        first: The line of its first example in the table; the others follow it.
    """

    examples: tuple[np.ndarray, ...]
    label_runs: tuple[np.ndarray, ...]
    global_labels: int
    first: int = 0

    @classmethod
    def with_prompts(
        cls, examples: Sequence[np.ndarray], prompt_lengths: Sequence[int], global_labels: int = 1
    ) -> Self:
        """Return a row whose examples are labelled after their prompts."""
        runs = [
            np.array([prompt, len(example) - prompt], dtype=np.int32)
            for example, prompt in zip(examples, prompt_lengths, strict=True)
        ]
        return cls(tuple(examples), tuple(runs), global_labels)


class MicroBatch(TypedDict):
    """The model's inputs, and what the loss and the measurements need.

    Attributes:
        input_ids: (1, tokens) packed, (rows, longest) padded.
        position_ids: Packed only: (1, tokens), starting from 0 in every example.
        attention_mask: Padded only: (rows, longest).
        logits_to_keep: The positions that predict labelled tokens. Packed: their indices; padded: a
            mask of the shape of input_ids.
        targets: The labelled tokens, in the same order.
        lengths: Tokens of every example in order, without padding, and of a filler if there is one.
        examples: How many of the lengths belong to examples.
        places: The line of each example in the table of the dataset.
        labels: How many of the targets belong to each example.
        global_labels: Labelled tokens of the global batch.
    """

    input_ids: "torch.Tensor"
    position_ids: NotRequired["torch.Tensor"]
    attention_mask: NotRequired["torch.Tensor"]
    logits_to_keep: "torch.Tensor"
    targets: "torch.Tensor"
    lengths: tuple[int, ...]
    examples: int
    places: tuple[int, ...]
    labels: tuple[int, ...]
    global_labels: int


class RowDataset:
    """A map-style dataset over the rows of a tokenized split.

    The order depends on seed and epoch alone, and an epoch has whole global batches only: step n
    sees the same rows on any number of ranks, wherever training began. Rows that are left over may
    be among the first of the next epoch. Every rank can therefore compute how many labelled tokens
    a global batch has, without communicating.
    """

    def __init__(self, table: pa.Table, *, global_batch_size: int, seed: int) -> None:
        """Start with the order of the first epoch.

        Args:
            table: The split, with the columns row (contiguous), input_ids and prompt_length, and
                label_runs where other tokens are labelled than those after the prompt.
            global_batch_size: Rows per optimizer step.
            seed: Seed of the order.
        """
        self._tokens_of = TokensByExample(table["input_ids"])
        self._runs = LabelRuns.of(table)
        lengths = pc.list_value_length(table["input_ids"]).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
        starts = np.flatnonzero(np.diff(table["row"].to_numpy(), prepend=-1))
        self._bounds = np.append(starts, table.num_rows)
        self._tokens = np.add.reduceat(lengths, starts)
        self._labels = np.add.reduceat(self._runs.predicted, starts)
        self._global_batch_size, self._seed = global_batch_size, seed
        self._size = len(starts) // global_batch_size * global_batch_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Set the order of an epoch, counted from 0; the data loader calls it."""
        steps = rows_by_step(
            len(self._tokens),
            global_batch_size=self._global_batch_size,
            seed=self._seed,
            epoch=epoch,
        )
        self._order = steps.ravel()
        self._global_labels = (
            self._labels[self._order].reshape(-1, self._global_batch_size).sum(axis=1)
        )

    @property
    def rows(self) -> int:
        """Rows of the split; an epoch has as many as fill whole global batches."""
        return len(self._tokens)

    @property
    def real_tokens(self) -> int:
        """Tokens of this epoch's examples, without padding."""
        return int(self._tokens[self._order].sum())

    @property
    def labelled_tokens(self) -> int:
        """Tokens of this epoch that the loss counts."""
        return int(self._global_labels.sum())

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> PackedRow:
        row = int(self._order[index])
        examples = range(self._bounds[row], self._bounds[row + 1])
        return PackedRow(
            tuple(self._tokens_of[each] for each in examples),
            tuple(self._runs[each] for each in examples),
            int(self._global_labels[index // self._global_batch_size]),
            int(self._bounds[row]),
        )


class TokensByExample:
    """The token ids of each example, read where they are: a chunk has at most 2^31 tokens.

    Args:
        input_ids: A column of lists.
    """

    def __init__(self, input_ids: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in input_ids.chunks if len(chunk)]
        self._parts = [(chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in chunks]
        self._ends = np.cumsum([len(chunk) for chunk in chunks]).tolist()

    def __getitem__(self, example: int) -> np.ndarray:
        part = bisect_right(self._ends, example)
        values, offsets = self._parts[part]
        place = example - (self._ends[part - 1] if part else 0)
        return values[offsets[place] : offsets[place + 1]]


def single_rows(table: pa.Table) -> list[PackedRow]:
    """Return every example of a table as a row of its own, in their order."""
    runs = LabelRuns.of(table)
    return [
        PackedRow((np.array(ids, np.int32),), (runs[place],), int(runs.predicted[place]))
        for place, ids in enumerate(table["input_ids"].to_pylist())
    ]


def rows_by_step(rows: int, *, global_batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the rows of an epoch, counted from 0, by step: (steps, global_batch_size) int64."""
    steps = rows // global_batch_size
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return order[: steps * global_batch_size].reshape(steps, global_batch_size)


class PackingCollator:
    """Concatenates the examples of all rows: one sequence, without padding."""

    def __init__(self, filler_token_id: int, multiple: int = 1) -> None:
        """Choose how sequences are filled up.

        Args:
            filler_token_id: The token of the filler, an example without labels.
            multiple: Sequences are filled up to a multiple of this number of tokens: devices may
                multiply such shapes faster.
        """
        self._filler_token_id, self._multiple = filler_token_id, multiple

    def __call__(self, rows: list[PackedRow]) -> MicroBatch:
        """Return the rows' micro-batch."""
        import torch

        examples, runs = _examples(rows)
        count = len(examples)
        if filler := -sum(map(len, examples)) % self._multiple:
            examples.append(np.full(filler, self._filler_token_id, dtype=np.int32))
            runs.append(np.array([filler], dtype=np.int32))
        lengths = np.array([len(example) for example in examples])
        starts = lengths.cumsum() - lengths
        input_ids = np.concatenate(examples).astype(np.int64)
        position_ids = np.arange(len(input_ids)) - starts.repeat(lengths)
        is_label = token_mask(runs)
        labelled = np.flatnonzero(is_label)
        return {
            "input_ids": torch.from_numpy(input_ids[None]),
            "position_ids": torch.from_numpy(position_ids[None]),
            "logits_to_keep": torch.from_numpy(labelled - 1),
            "targets": torch.from_numpy(input_ids[labelled]),
            "lengths": tuple(lengths.tolist()),
            "examples": count,
            "places": _places(rows),
            "labels": tuple(np.add.reduceat(is_label, starts, dtype=int)[:count].tolist()),
            "global_labels": rows[0].global_labels,
        }


class PaddingCollator:
    """Pads each example on the right, to the longest of the micro-batch."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, rows: list[PackedRow]) -> MicroBatch:
        """Return the rows' micro-batch."""
        import torch

        examples, runs = _examples(rows)
        lengths = np.array([len(example) for example in examples])[:, None]
        columns = np.arange(lengths.max())[None]
        is_token = columns < lengths
        input_ids = np.full(is_token.shape, self._pad_token_id, dtype=np.int64)
        for row, example in enumerate(examples):
            input_ids[row, : len(example)] = example
        is_label = np.zeros_like(is_token)
        is_label[is_token] = token_mask(runs)
        return {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(is_token.astype(np.int64)),
            "logits_to_keep": torch.from_numpy(np.roll(is_label, -1, axis=1)),
            "targets": torch.from_numpy(input_ids[is_label]),
            "lengths": tuple(lengths[:, 0].tolist()),
            "examples": len(examples),
            "places": _places(rows),
            "labels": tuple(is_label.sum(axis=1).tolist()),
            "global_labels": rows[0].global_labels,
        }


def _examples(rows: list[PackedRow]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the tokens and the runs of all examples."""
    examples = [example for row in rows for example in row.examples]
    return examples, [runs for row in rows for runs in row.label_runs]


def _places(rows: list[PackedRow]) -> tuple[int, ...]:
    """Return the line of every example in the table."""
    return tuple(row.first + place for row in rows for place in range(len(row.examples)))
