"""From the tokenized dataset's rows to the tensors of a micro-batch: padded, with labels on the response only."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import torch

IGNORED_LABEL = -100  # torch.nn.CrossEntropyLoss's ignore_index


class ExampleDataset:
    """A map-style dataset over a tokenized split (columns input_ids, prompt_length), in an epoch's order.

    The order is a function of seed and epoch alone, and an epoch has whole global batches only: so step n sees the same
    examples on any number of ranks, wherever training began. What is left over takes its chance in the next order.
    """

    def __init__(self, table: pa.Table, *, global_batch_size: int, seed: int) -> None:
        self._input_ids = table["input_ids"].combine_chunks()
        self._prompt_lengths = table["prompt_length"].to_numpy()
        self._seed = seed
        self._size = len(self._prompt_lengths) // global_batch_size * global_batch_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Brings the examples into the order of an epoch, counted from 0; the data loader calls it."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._prompt_lengths))
        self._order = order[: self._size]

    @property
    def real_tokens(self) -> int:
        """Tokens of this epoch's examples, padding not counted."""
        lengths = np.diff(self._input_ids.offsets.to_numpy())
        return int(lengths[self._order].sum())

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Token ids (int32, one dimension) and how many of them are the prompt's."""
        row = int(self._order[index])
        return self._input_ids[row].values.to_numpy(), int(self._prompt_lengths[row])


class PaddingCollator:
    """Pads to the longest of the micro-batch, on the right."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, examples: list[tuple[np.ndarray, int]]) -> dict[str, "torch.Tensor"]:
        """input_ids, attention_mask and labels, each of shape (examples, longest)."""
        import torch

        shape = (len(examples), max(len(ids) for ids, _ in examples))
        input_ids = np.full(shape, self._pad_token_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        labels = np.full(shape, IGNORED_LABEL, dtype=np.int64)
        for row, (ids, prompt_length) in enumerate(examples):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
            labels[row, prompt_length : len(ids)] = ids[prompt_length:]
        arrays = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
