"""Tokens that are new to a base model: which they are, and how an adapter trains their rows.

Preparation gives a new token a row near the mean of all rows, in the embeddings and in the output
layer. LoRA freezes both, and the mean of all rows never has the largest logit: a model could not
learn to end its answers. So these rows are trained. peft calls them `trainable_token_indices`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from dolly_assets.core.errors import TrainingError
from dolly_assets.training import seams

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def new_token_ids(
    tokenizer: "PreTrainedTokenizerBase", special_tokens: Sequence[str]
) -> tuple[int, ...]:
    """Return the ids of the special tokens that preparation added to a tokenizer, sorted.

    Tokens are added behind all others, followed by the padding token if that was missing, too.
    Padding itself is never an input that counts, nor a label.

    Args:
        tokenizer: The prepared model's own.
        special_tokens: Those of the prompt style.
    """
    vocabulary = tokenizer.get_vocab()
    special = {vocabulary[token] for token in special_tokens if token in vocabulary}
    found: list[int] = []
    for token_id in sorted(vocabulary.values(), reverse=True):
        if token_id in special:
            found.append(token_id)
        elif token_id != tokenizer.pad_token_id:
            break
    return tuple(reversed(found))


def rows_to_train(model: "PreTrainedModel", token_ids: Sequence[int]) -> dict[str, list[int]]:
    """Return the rows to train, by the names of the layers that have them.

    Those are the input embeddings and, unless the two share their weights, the output layer.
    """
    if not token_ids:
        return {}
    layers: list[Any] = [model.get_input_embeddings()]
    if not model.config.get_text_config().tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    names = {module: name for name, module in model.named_modules() if module in layers}
    return {names[layer]: list(token_ids) for layer in layers if layer is not None}


def train_rows_beside_frozen_layers(model: "torch.nn.Module") -> None:
    """Have the layers with trained rows compute as they are, and replace what their rows give.

    peft computes with a copy of all embeddings in which the rows are replaced: hundreds of MB for
    each micro-batch, without the output layer's bias, and under ZeRO 3 with weights that nobody has
    gathered. Its files are the same either way.

    Raises:
        TrainingError: A layer is neither an embedding nor linear.
    """
    import torch
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    for layer in model.modules():
        if not isinstance(layer, TrainableTokensLayer):
            continue
        base = layer.get_base_layer()
        if not isinstance(base, torch.nn.Embedding | torch.nn.Linear):
            raise TrainingError(
                f"the rows of new tokens cannot be trained in a {type(base).__name__}: set "
                "recipe.lora.train_new_tokens to false, or train the whole model"
            )
        rows = next(iter(layer.trainable_tokens_delta.values()))
        seams.gather_with(layer, rows, getattr(base, "bias", None))
        layer.forward = _forward(layer, base, rows)


def _forward(layer: Any, base: "torch.nn.Module", rows: "torch.nn.Parameter") -> Any:
    """Return the forward pass of a layer whose trained rows replace some of its own."""
    import torch

    [token_ids] = layer.token_indices.values()

    def embed(ids: "torch.Tensor", *_: Any, **__: Any) -> "torch.Tensor":
        scale = layer._get_embed_scale()
        values = rows if scale is None else rows * scale.to(rows.dtype)
        is_row = ids[..., None] == torch.tensor(token_ids, device=ids.device)
        replaced = is_row.to(rows.dtype) @ values
        return torch.where(is_row.any(-1, keepdim=True), replaced, base(ids))

    def project(hidden: "torch.Tensor", *_: Any, **__: Any) -> "torch.Tensor":
        index = torch.tensor(token_ids, device=hidden.device)
        bias = None if base.bias is None else cast("torch.Tensor", base.bias)[index]
        logits = torch.nn.functional.linear(hidden, rows, bias)
        return base(hidden).index_copy(-1, index, logits)

    return embed if isinstance(base, torch.nn.Embedding) else project
