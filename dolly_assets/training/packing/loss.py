"""The loss of labelled tokens: a model computes the logits that it needs, a chunk at a time."""

import inspect
from typing import TYPE_CHECKING

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.packing.attention import PackedAttention
from dolly_assets.training.packing.batches import MicroBatch
from dolly_assets.training.packing.chunks import ChunkedLoss

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Entries of a micro-batch that are not arguments of the model.
_FOR_THE_LOSS = {
    "targets",
    "lengths",
    "examples",
    "places",
    "labels",
    "global_labels",
    "logits_to_keep",
}


class LabelLoss:
    """Computes the loss of a model on micro-batches.

    Attributes:
        packed: The attention that packed examples are computed with.
        model_class: Class of the model, without an adapter that may be added to it later.
        chunks: Computes the loss in chunks of tokens; None if all their logits are computed.
    """

    def __init__(self, model: "PreTrainedModel", packed: PackedAttention) -> None:
        self.packed, self.model_class = packed, type(model)
        self.chunks: ChunkedLoss | None = None
        self._parameters = inspect.signature(model.forward).parameters

    def sum(self, model: "torch.nn.Module", batch: MicroBatch) -> "torch.Tensor":
        """Return the summed cross-entropy of the labelled tokens in nats, always in float32."""
        return self.sum_and_parts(model, batch)[0]

    def sum_and_parts(
        self, model: "torch.nn.Module", batch: MicroBatch
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return the sum, and the cross-entropy of each labelled token without its gradient."""
        if self.chunks:
            return self.chunks.of(
                lambda: self._call(model, batch), batch["logits_to_keep"], batch["targets"]
            )
        from torch.nn import functional

        # The two steps of `cross_entropy`: what is between them holds the loss of every token.
        log_shares = functional.log_softmax(self.logits(model, batch).float(), dim=-1)
        targets = batch["targets"]
        total = functional.nll_loss(log_shares, targets, reduction="sum")
        return total, -log_shares.detach().gather(1, targets[:, None])[:, 0]

    def logits(self, model: "torch.nn.Module", batch: MicroBatch) -> "torch.Tensor":
        """Return the logits that predict the labelled tokens: (labelled tokens, vocabulary).

        Raises:
            TrainingError: The model accepts no positions, without which rows cannot be packed.
        """
        keep = batch["logits_to_keep"]
        if "logits_to_keep" in self._parameters:
            return self._call(model, batch, logits_to_keep=keep).flatten(0, -2)
        logits = self._call(model, batch)  # all of them; the others are dropped here
        return logits[keep] if keep.ndim == 2 else logits[0, keep]

    def _call(
        self, model: "torch.nn.Module", batch: MicroBatch, **others: "torch.Tensor"
    ) -> "torch.Tensor":
        """Return the logits of a forward pass."""
        inputs = {name: value for name, value in batch.items() if name not in _FOR_THE_LOSS}
        if "position_ids" in inputs and "position_ids" not in self._parameters:
            raise TrainingError("its forward pass accepts no position_ids")
        self.packed.begin(batch["lengths"], batch["input_ids"].device)
        return model(**inputs, **others, use_cache=False).logits
