"""How many floating-point operations a model's training requires.

Counted is what the mathematics requires, once: neither padding nor what gradient checkpointing
recomputes. Follows appendix B of PaLM (Chowdhery et al., 2022, https://arxiv.org/abs/2204.02311):
6 operations for each weight of a matrix product and each token (2 forward, 4 backward), and the
products of attention. Two things are counted more precisely than there: the output layer for the
labelled tokens only, since only they need it, and attention only for the pairs of tokens that see
each other (causal, within an example).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

from dolly_assets.training.seams import parameter_size

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# A product is computed once forward and twice backward, once if the weight is frozen; each takes 2
# operations.
_PER_WEIGHT = 6
_PER_FROZEN_WEIGHT = 4
# Per pair of tokens and unit of width: scores, and their product with the values.
_PER_PAIR = 2 * _PER_WEIGHT


@dataclass(frozen=True)
class ModelFlops:
    """What the count needs to know of a dense model.

    Attributes:
        body_weights: Weights that every token passes: all but the embeddings and the output layer.
        head_weights: Weights of the output layer, whether shared with the embeddings or not.
        attention_width: Number of heads times their size, summed over the layers.
        frozen_body_weights: Weights of the body that are not trained.
        head_is_frozen: Whether the output layer is not trained.
    """

    body_weights: int
    head_weights: int
    attention_width: int
    frozen_body_weights: int = 0
    head_is_frozen: bool = False

    @classmethod
    def of(cls, model: "PreTrainedModel") -> Self:
        """Count a model's weights, sharded by ZeRO or not."""
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
            body_weights=sum(map(parameter_size, body)),
            head_weights=parameter_size(head),
            attention_width=config.num_hidden_layers * heads * head_size,
            frozen_body_weights=sum(
                parameter_size(weight) for weight in body if not weight.requires_grad
            ),
            head_is_frozen=not head.requires_grad,
        )

    def with_adapter(self, weights: int) -> "ModelFlops":
        """Return the count for the same model, frozen, with an adapter of `weights` in its body."""
        return ModelFlops(
            self.body_weights + weights,
            self.head_weights,
            self.attention_width,
            self.body_weights,
            True,
        )

    def of_examples(self, lengths: Sequence[int], labelled_tokens: int) -> float:
        """Return the operations of training once on examples of these lengths."""
        pairs = sum(length * (length + 1) // 2 for length in lengths)
        trained, frozen = self.body_weights - self.frozen_body_weights, self.frozen_body_weights
        per_token = _PER_WEIGHT * trained + _PER_FROZEN_WEIGHT * frozen
        per_label = (_PER_FROZEN_WEIGHT if self.head_is_frozen else _PER_WEIGHT) * self.head_weights
        return float(
            per_token * sum(lengths)
            + per_label * labelled_tokens
            + _PER_PAIR * self.attention_width * pairs
        )
