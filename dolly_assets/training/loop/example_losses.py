"""The loss of every example that a training has seen, from the forward passes that it makes anyway.

The losses of a step's tokens stay on the device until the step's own loss is read, which waits for
the device: one short copy then, and no wait of its own. Knows the lines of the dataset's table, not
what they are.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dolly_assets.training.packing.batches import MicroBatch
from dolly_assets.training.process_group import HostGroup

if TYPE_CHECKING:
    import torch

EXAMPLE_LOSSES_SCHEMA = pa.schema(
    {
        "example": pa.int64(),  # line of the dataset's table
        "step": pa.int64(),  # since the first epoch's first, counted from 1
        "labelled_tokens": pa.int32(),
        "loss": pa.float32(),  # nats, summed over the labelled tokens
    }
)


class ExampleLosses:
    """Collects the losses of the examples that this rank trains on."""

    def __init__(self) -> None:
        self._places: list[int] = []  # of the step's examples
        self._labels: list[int] = []
        self._of_tokens: list[torch.Tensor] = []
        self._done: list[np.ndarray] = []  # a line of EXAMPLE_LOSSES_SCHEMA per example

    def add(self, batch: MicroBatch, of_tokens: "torch.Tensor") -> None:
        """Add a micro-batch of the step, with the loss of each of its labelled tokens."""
        self._places += batch["places"]
        self._labels += batch["labels"]
        self._of_tokens.append(of_tokens)

    def end_step(self, step: int) -> None:
        """Sum up the step's examples; its loss is known, so that the device has nothing to do."""
        import torch

        of_tokens = torch.cat(self._of_tokens).cpu().numpy()
        example = np.arange(len(self._labels)).repeat(self._labels)
        sums = np.bincount(example, weights=of_tokens, minlength=len(self._labels))
        steps = [step] * len(sums)
        self._done.append(np.column_stack([self._places, steps, self._labels, sums]))
        self._places, self._labels, self._of_tokens = [], [], []

    def take(self, hosts: HostGroup) -> pa.Table:
        """Return the examples of the steps since the last call, of all ranks; a collective call.

        The columns are those of EXAMPLE_LOSSES_SCHEMA, sorted by step and example.
        """
        done, self._done = self._done, []
        lines = hosts.rows(np.concatenate([np.empty((0, len(EXAMPLE_LOSSES_SCHEMA))), *done]))
        lines = lines[np.lexsort((lines[:, 0], lines[:, 1]))]
        columns = [
            pa.array(column.astype(field.type.to_pandas_dtype()))
            for field, column in zip(EXAMPLE_LOSSES_SCHEMA, lines.T, strict=True)
        ]
        return pa.table(columns, schema=EXAMPLE_LOSSES_SCHEMA)
