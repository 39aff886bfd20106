"""How many floating-point operations a model's training asks for.

Counted is what the mathematics needs, once: neither padding nor what gradient checkpointing
computes again. Follows appendix B of PaLM (Chowdhery et al., 2022,
https://arxiv.org/abs/2204.02311): 6 operations for each weight of a matrix product and each token
(2 forward, 4 backward), and the attention's own products. Two things are counted more closely than
there: the output layer for the labelled tokens only, since only they need it, and attention for the
pairs of tokens that see each other only (causal, within an example).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Forward and backward: a product once forward, twice backward, once if the weight is frozen; 2
# operations each.
_PER_WEIGHT = 6
_PER_FROZEN_WEIGHT = 4
# Per pair of tokens and unit of width: scores and their product with the values.
_PER_PAIR = 2 * _PER_WEIGHT


@dataclass(frozen=True)
class ModelFlops:
    """What the count needs to know of a dense model.

    Attributes:
        body_weights: Weights that every token meets: all but the embeddings and the output layer.
        head_weights: Weights of the output layer, be they shared with the embeddings or not.
        attention_width: Heads times their size, summed over the layers.
        frozen_body_weights: Those of the body that aren't trained.
        head_is_frozen: Whether the output layer isn't.
    """

    body_weights: int
    head_weights: int
    attention_width: int
    frozen_body_weights: int = 0
    head_is_frozen: bool = False

    @classmethod
    def of(cls, model: "PreTrainedModel") -> Self:
        """Counts a model's weights, also when ZeRO has sharded them."""
        config = model.config.get_text_config()
        embedding, head = (
            cast("torch.Tensor", layer.weight)
            for layer in (model.get_input_embeddings(), model.get_output_embeddings())
            if layer is not None
        )
        apart = {id(embedding), id(head)}
        heads = config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
        body = [weight for weight in model.parameters() if id(weight) not in apart]
        return cls(
            body_weights=sum(map(_size, body)),
            head_weights=_size(head),
            attention_width=config.num_hidden_layers * heads * head_size,
            frozen_body_weights=sum(_size(weight) for weight in body if not weight.requires_grad),
            head_is_frozen=not head.requires_grad,
        )

    def with_adapter(self, weights: int) -> "ModelFlops":
        """The same model, frozen, and an adapter in its body."""
        return ModelFlops(
            self.body_weights + weights,
            self.head_weights,
            self.attention_width,
            self.body_weights,
            True,
        )

    def of_examples(self, lengths: Sequence[int], labelled_tokens: int) -> float:
        """Operations of training on examples of these lengths, once."""
        pairs = sum(length * (length + 1) // 2 for length in lengths)
        trained, frozen = self.body_weights - self.frozen_body_weights, self.frozen_body_weights
        per_token = _PER_WEIGHT * trained + _PER_FROZEN_WEIGHT * frozen
        per_label = (_PER_FROZEN_WEIGHT if self.head_is_frozen else _PER_WEIGHT) * self.head_weights
        return float(
            per_token * sum(lengths)
            + per_label * labelled_tokens
            + _PER_PAIR * self.attention_width * pairs
        )


def _size(weight: "torch.Tensor") -> int:
    return (
        getattr(weight, "ds_numel", None) or weight.numel()
    )  # where ZeRO has sharded it, DeepSpeed's name for it
