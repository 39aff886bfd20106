"""The loss of labelled tokens: a model computes the logits that it needs, and no others."""

import inspect
from typing import TYPE_CHECKING

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.packing.attention import PackedAttention
from dolly_assets.training.packing.batches import MicroBatch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_NOT_THE_MODELS = {"targets", "lengths", "examples", "global_labels"}


class LabelLoss:
    """Calls a model on micro-batches."""

    def __init__(self, model: "PreTrainedModel", packed: PackedAttention) -> None:
        self._packed = packed
        self._parameters = inspect.signature(model.forward).parameters

    def sum(self, model: "torch.nn.Module", batch: MicroBatch) -> "torch.Tensor":
        """Sum of the cross-entropies of the labelled tokens, in nats, in float32 whatever the model computes in."""
        import torch

        logits = self.logits(model, batch)
        return torch.nn.functional.cross_entropy(logits.float(), batch["targets"], reduction="sum")

    def logits(self, model: "torch.nn.Module", batch: MicroBatch) -> "torch.Tensor":
        """Those that the labelled tokens are predicted by: (labelled tokens, vocabulary).

        Raises:
            TrainingError: The model doesn't take positions, without which rows can't be packed.
        """
        inputs = {name: value for name, value in batch.items() if name not in _NOT_THE_MODELS}
        if "position_ids" in inputs and "position_ids" not in self._parameters:
            raise TrainingError("its forward pass takes no position_ids")
        self._packed.begin(batch["lengths"], batch["input_ids"].device)
        keep = batch["logits_to_keep"]
        if "logits_to_keep" in self._parameters:
            return model(**inputs, use_cache=False).logits.flatten(0, -2)
        del inputs[
            "logits_to_keep"
        ]  # it computes them all, and the ones not asked for are dropped here
        logits = model(**inputs, use_cache=False).logits
        return logits[keep] if keep.ndim == 2 else logits[0, keep]
