"""From the tokenized dataset's rows to the tensors of a micro-batch: padded, with labels on the response only."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import torch

IGNORED_LABEL = -100  # torch.nn.CrossEntropyLoss's ignore_index


class ExampleDataset:
    """A map-style dataset over a tokenized split (columns input_ids, prompt_length)."""

    def __init__(self, table: pa.Table) -> None:
        self._input_ids = table["input_ids"].combine_chunks()
        self._prompt_lengths = table["prompt_length"].to_numpy()
        self.real_tokens = len(self._input_ids.flatten())

    def __len__(self) -> int:
        return len(self._prompt_lengths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Token ids (int32, one dimension) and how many of them are the prompt's."""
        return self._input_ids[index].values.to_numpy(), int(self._prompt_lengths[index])


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
