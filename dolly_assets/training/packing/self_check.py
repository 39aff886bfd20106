"""A proof on the model itself, before its first step, that packed examples do not see each other.

Architectures treat positions and masks differently, and a mistake would still look like training.
The module knows nothing of individual architectures.
"""

from typing import TYPE_CHECKING

import numpy as np

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.packing import attention
from dolly_assets.training.packing.batches import PackedRow, PackingCollator
from dolly_assets.training.seams import attention_implementation, can_set_attention

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from dolly_assets.training.packing.loss import LabelLoss

_LENGTHS = (7, 12, 5)
# A share of the effect that changing an example's beginning has on its own end; less is rounding.
_TOLERANCE = 1e-3
_ROUNDING = 16  # units in the last place of the largest logit


def choose_attention(model: "PreTrainedModel", loss: "LabelLoss") -> str:
    """Set the fastest attention that keeps packed examples apart, and return its name.

    Candidates are ours, and then the model's own, which may derive a mask from positions that start
    from 0 again. Every rank calls it.

    Raises:
        TrainingError: Neither keeps packed examples apart.
    """
    own = attention_implementation(model)
    found = []
    can_choose = can_set_attention(model)
    for name in (attention.NAME, own) if can_choose else (own,):
        try:
            _check(model, loss, own, name)
        except TrainingError as error:
            found.append(str(error))  # the next candidate may pass
        else:
            return name
    raise TrainingError(
        f"{type(model).__name__} cannot be trained on packed rows: {'; '.join(found)}. "
        "Set recipe.packing: false"
    )


def _check(model: "PreTrainedModel", loss: "LabelLoss", own: str, name: str) -> None:
    """Raise TrainingError if an attention gives a packed example other logits than alone."""
    import torch

    examples = _random_examples(model.config.get_text_config().vocab_size)
    changed = [examples[0].copy(), *examples[1:]]
    changed[0][:-1] = np.roll(changed[0][:-1], 1)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        _set(model, own)
        alone = torch.cat([_logits(model, loss, [example]) for example in examples])
        _set(model, name)
        packed, beside = _logits(model, loss, examples), _logits(model, loss, changed)
    model.train(was_training)
    ends = _LENGTHS[0] - 1
    effect = (packed[ends - 1] - beside[ends - 1]).abs().max()
    if not effect > 0:
        raise TrainingError(f"{name} attention: no token sees the tokens before it")
    if (packed[ends:] - beside[ends:]).abs().max() > _TOLERANCE * effect:
        raise TrainingError(f"{name} attention: a token sees another example of its row")
    rounding = _ROUNDING * torch.finfo(model.dtype).eps * alone.abs().max()
    if (packed - alone).abs().max() > _TOLERANCE * effect + rounding:
        raise TrainingError(f"{name} attention: a packed example gets other logits than alone")


def _random_examples(vocabulary: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(vocabulary, size=length, dtype=np.int32) for length in _LENGTHS]


def _logits(
    model: "PreTrainedModel", loss: "LabelLoss", examples: list[np.ndarray]
) -> "torch.Tensor":
    """Return the logits of all tokens but the examples' last: (tokens, vocabulary) in float32."""
    batch = PackingCollator(0)([PackedRow(tuple(examples), (1,) * len(examples), 1)])
    device = next(model.parameters()).device
    on_device = {
        name: getattr(value, "to", lambda _, value=value: value)(device)
        for name, value in batch.items()
    }
    return loss.logits(model, on_device).float()  # pyright: ignore[reportArgumentType]


def _set(model: "PreTrainedModel", name: str) -> None:
    if can_set_attention(model):
        model.set_attn_implementation(name)
