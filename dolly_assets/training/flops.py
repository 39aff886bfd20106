"""How many floating-point operations a model's training requires.

Counted is what the mathematics requires, once: neither padding nor what gradient checkpointing
recomputes. Follows appendix B of PaLM (Chowdhery et al., 2022, https://arxiv.org/abs/2204.02311):
6 operations for each weight of a matrix product and each token (2 forward, 4 backward), and the
products of attention. Two things are counted more precisely than there: the output layer for the
labelled tokens only, since only they need it, and attention only for the pairs of tokens that see
each other (causal, within an example).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

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
# What transformers' architectures call the same thing.
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
_SELECTED = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_top_k",
    "moe_k",
    "top_k_experts",
    "num_selected_experts",
)
# Layers that compute no pairs of tokens.
_NO_PAIRS = re.compile(r"linear|conv|mamba|recurrent|mlp|moe|ssm|lightning")


@dataclass(frozen=True)
class ModelFlops:
    """What the count needs to know of a model.

    Attributes:
        body_weights: Weights that a token passes, without the embeddings and the output layer: of
            experts, as many as are selected for it.
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
    def of(cls, model: "PreTrainedModel") -> Self | None:
        """Count a model's weights, also when ZeRO has sharded them.

        Returns:
            The count, or None for an architecture whose layers do not follow from its
            configuration: what is measured must not end what it measures.
        """
        try:
            return cls._of(model)
        except Exception:  # noqa: BLE001 optional settings are missing in many ways
            return None

    @classmethod
    def _of(cls, model: "PreTrainedModel") -> Self:
        config = _settings(model)
        embedding, head = (
            cast("torch.Tensor", layer.weight) if layer is not None else None
            for layer in (model.get_input_embeddings(), model.get_output_embeddings())
        )
        apart = {id(embedding), id(head)}
        body = [
            (share * parameter_size(weight), weight)
            for weight, share in _shares(model, config)
            if id(weight) not in apart
        ]
        return cls(
            body_weights=round(sum(size for size, _ in body)),
            head_weights=parameter_size(head) if head is not None else 0,
            attention_width=_attention_width(config),
            frozen_body_weights=round(
                sum(size for size, weight in body if not weight.requires_grad)
            ),
            head_is_frozen=head is not None and not head.requires_grad,
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


def inactive_weights(model: "PreTrainedModel") -> int:
    """Return how many weights a token does not pass: those of experts that are not selected.

    It is 0 where that isn't known.
    """
    try:
        config = _settings(model)
        return round(
            sum((1 - share) * parameter_size(weight) for weight, share in _shares(model, config))
        )
    except Exception:  # noqa: BLE001 optional settings are missing in many ways
        return 0


def _settings(model: "PreTrainedModel") -> dict[str, Any]:
    """Return the configuration of a model's text part, with those of its parts merged under it."""
    values = model.config.get_text_config().to_dict()
    parts = [
        part
        for name, part in values.items()
        if isinstance(part, Mapping) and name in ("attn_config", "ffn_config")
    ]
    merged: dict[str, Any] = {}
    for part in (*parts, values):
        merged |= {name: value for name, value in part.items() if value is not None}
    return merged


def _shares(
    model: "PreTrainedModel", config: Mapping[str, Any]
) -> "Iterator[tuple[torch.Tensor, float]]":
    """Yield each weight, and the share of it that a token passes."""
    experts, selected = _first(config, _EXPERTS), _first(config, _SELECTED)
    for name, weight in model.named_parameters():
        shape = getattr(weight, "ds_shape", weight.shape)
        is_stacked = len(shape) == 3 and experts is not None and shape[0] == experts > 1
        if not is_stacked and ".experts." not in name:
            yield weight, 1.0
            continue
        if not experts or not selected:
            raise ValueError(f"{name}: how many experts a token passes is not known")
        yield weight, min(1.0, selected / experts)


def _attention_width(config: Mapping[str, Any]) -> int:
    """Heads times their size, over the layers that have attention."""
    layers, kinds = _first(config, _LAYERS), config.get("layer_types")
    if isinstance(kinds, list):
        layers = sum(1 for kind in kinds if not _NO_PAIRS.search(str(kind)))
    heads = _first(config, _HEADS)
    if not heads or not layers:
        return 0  # state-space models have none
    size = config.get("head_dim") or (_first(config, _HIDDEN) or 0) // heads
    if config.get("qk_rope_head_dim") and config.get("v_head_dim"):
        key = (config.get("qk_nope_head_dim") or 0) + config["qk_rope_head_dim"]
        size = (key + config["v_head_dim"]) // 2
    return layers * heads * size


def _first(config: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return next((value for name in names if isinstance(value := config.get(name), int)), None)
