"""Whether an architecture computes packed or padded examples as it computes each of them alone.

Runs on a small copy of the model in float32, where rounding hides nothing, and compares loss and
gradient. Knows nothing of weights, devices and kernels: those are checked on the model itself.
"""

from typing import TYPE_CHECKING

import numpy as np

from dolly_assets.core.errors import TrainingError
from dolly_assets.core.text import percent
from dolly_assets.training.packing.batches import PackedRow, PackingCollator, PaddingCollator
from dolly_assets.training.packing.chunks import ChunkedLoss
from dolly_assets.training.packing.loss import LabelLoss
from dolly_assets.training.packing.miniature import Reach, reduced_model
from dolly_assets.training.seams import (
    attention_implementation,
    can_set_attention,
    without_deepspeed,
)

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

# Beyond the limits of a small copy, and many enough to meet ties where the largest are selected.
_LENGTHS = (7, 61, 12, 40, 23, 35)
# Examples are conversations: so many tokens are a prompt, as many are labelled, and so on.
_TURN = 2
# Labelled tokens in a chunk of the loss: no example has a multiple of it.
_CHUNK = 7
# Relative. What differs for a reason differs by more than 1e-3; float32 rounds to 6e-8.
_LOSS, _GRADIENT = 1e-5, 1e-4


class SmallCopy:
    """A small model of the same architecture, and what it computes of each example alone.

    Raises:
        TrainingError: The architecture has no small copy that runs.
    """

    def __init__(
        self, config: "PretrainedConfig", attention: str, loss: LabelLoss, reach: Reach
    ) -> None:
        """Build the copy.

        Args:
            config: The configuration of the model in question.
            attention: The attention implementation that the model has by default.
            loss: What calls that model.
            reach: How long examples get in the training.
        """
        # Others may not run on a CPU.
        plain = attention if attention in ("eager", "sdpa") else None
        self._model = reduced_model(config, loss.model_class, reach, plain)
        self._own = attention_implementation(self._model)
        self._loss = LabelLoss(self._model, loss.packed)
        self._examples = _examples(self._model.config.get_text_config().vocab_size)
        with without_deepspeed():
            self._alone = self._of_each_alone()

    def check(self, attention: str | None, *, packed: bool, together: bool = True) -> None:
        """Compare one way of laying out examples with each of them alone.

        Args:
            attention: An attention implementation; the model's own if None.
            packed: Whether examples are laid end to end; else they are padded.
            together: Whether several of them share a forward pass.

        Raises:
            TrainingError: Loss or gradient differ.
        """
        if can_set_attention(self._model):
            self._model.set_attn_implementation(attention or self._own)
        collator = PackingCollator(0, multiple=8) if packed else PaddingCollator(0)
        self._compare(self._loss, collator, together=together)

    def check_chunks(self) -> None:
        """Compare the loss in chunks, by the model's own attention, with all logits at once.

        Raises:
            TrainingError: Loss or gradient differ, or the model's parts cannot be told apart.
        """
        if can_set_attention(self._model):
            self._model.set_attn_implementation(self._own)
        loss = LabelLoss(self._model, self._loss.packed)
        with without_deepspeed():
            loss.chunks = ChunkedLoss(self._model, rows=_CHUNK)
        self._compare(loss, PaddingCollator(0), together=False)

    def _compare(
        self, loss: LabelLoss, collator: PackingCollator | PaddingCollator, *, together: bool
    ) -> None:
        rows = [PackedRow((each,), (_turns(len(each)),), 1) for each in self._examples]
        total = 0.0
        self._model.zero_grad()
        with without_deepspeed():
            for part in [rows] if together else [[row] for row in rows]:
                value = loss.sum(self._model, collator(part))
                value.backward()
                total += value.item()
            alone, gradient = self._alone
            off = abs(total - alone) / abs(alone)
            gradient_off = float((self._gradient() - gradient).norm() / gradient.norm())
        if not (off <= _LOSS and gradient_off <= _GRADIENT):
            raise TrainingError(
                "in a small copy, examples differ from each of them alone: the loss by "
                f"{percent(off, 2)}, the gradient by {percent(gradient_off, 2)}"
            )

    def _of_each_alone(self) -> tuple[float, "torch.Tensor"]:
        """Loss and gradient by a plain call of the model, which shares nothing with a training."""
        import torch

        total = 0.0
        for example in self._examples:
            tokens = torch.from_numpy(example.astype(np.int64))
            logits = self._model(input_ids=tokens[None], use_cache=False).logits[0]
            is_label = torch.arange(len(tokens)) // _TURN % 2 == 1
            value = torch.nn.functional.cross_entropy(
                logits[:-1][is_label[1:]].float(), tokens[is_label], reduction="sum"
            )
            value.backward()
            total += value.item()
        return total, self._gradient()

    def _gradient(self) -> "torch.Tensor":
        import torch

        return torch.cat(
            [
                (torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten()
                for weight in self._model.parameters()
            ]
        ).clone()


def _examples(vocabulary: int) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.integers(vocabulary, size=length, dtype=np.int32) for length in _LENGTHS]


def _turns(length: int) -> np.ndarray:
    whole, rest = divmod(length, _TURN)
    return np.array([_TURN] * whole + [rest] * bool(rest), dtype=np.int32)
