"""Attention within each example of a packed sequence.

It works for every model that uses the attention functions of transformers, and is registered under
NAME in their AttentionInterface. Such a model passes no mask; `PackedAttention.begin` sets which
tokens belong together before a forward pass. The setting stays until the next one, since gradient
checkpointing recomputes attention in the backward pass.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import TrainingError

if TYPE_CHECKING:
    import torch

NAME = "within_examples"
# Arguments of other attention functions that change the result, and that this one does not support.
_UNKNOWN = ("softcap", "s_aux", "position_bias", "head_mask")
# FlashAttention supports heads of one size for queries, keys and values, a multiple of 8 and not
# larger than 256; the variant used here has no dropout.
_FLASH_HEAD, _FLASH_MULTIPLE = 256, 8


class PackedAttention:
    """The attention function, and the bounds of the examples that it is called for."""

    def __init__(self) -> None:
        self._lengths: tuple[int, ...] = ()
        self._bounds: torch.Tensor | None = None

    def register(self) -> None:
        """Make NAME a value of `attn_implementation`; the instance registered last is called."""
        from transformers import AttentionInterface

        AttentionInterface.register(NAME, self)

    def begin(self, lengths: Sequence[int], device: "torch.device") -> None:
        """Set the lengths of the examples in the next forward pass, in their order."""
        import torch

        self._lengths = tuple(lengths)
        if device.type == "cuda":
            ends = torch.tensor((0, *lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
            self._bounds = ends.to(device, non_blocking=True)

    def __call__(
        self,
        module: "torch.nn.Module",
        query: "torch.Tensor",
        key: "torch.Tensor",
        value: "torch.Tensor",
        attention_mask: "torch.Tensor | None",
        dropout: float = 0.0,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **others: Any,
    ) -> "tuple[torch.Tensor, None]":
        """Compute attention within each example; called by the model's layers.

        Args:
            module: The layer that calls.
            query: Shape (1, heads, tokens, size).
            key: Shape (1, key heads, tokens, size).
            value: As key.
            attention_mask: Not supported.
            dropout: Probability of dropout on the scores.
            scaling: Factor of the scores; 1/sqrt(size) by default.
            sliding_window: How many tokens back a token sees, itself included; all by default.
            others: Arguments of other attention functions.

        Returns:
            The output, of shape (1, tokens, heads, size), and None for the scores.

        Raises:
            TrainingError: The layer requires something that is not supported.
        """
        unknown = [name for name in _UNKNOWN if others.get(name) is not None]
        if (
            attention_mask is not None
            or unknown
            or query.shape[0] != 1
            or query.shape[2] != sum(self._lengths)
        ):
            raise TrainingError(
                f"{NAME} attention: {type(module).__name__} requires what it does not support: "
                + (
                    ", ".join(unknown)
                    or f"a mask, or a sequence other than the one of {sum(self._lengths)} tokens"
                )
            )
        scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
        window = sliding_window if sliding_window and sliding_window < max(self._lengths) else None
        if can_flash(query, key, value, dropout):
            return self._varlen(query, key, value, scale, window), None
        attend = partial(_attend, dropout=dropout, scale=scale, window=window)
        return _by_example(self._lengths, query, key, value, attend), None

    def _varlen(
        self,
        query: "torch.Tensor",
        key: "torch.Tensor",
        value: "torch.Tensor",
        scale: float,
        window: int | None,
    ) -> "torch.Tensor":
        """Compute FlashAttention over all examples at once."""
        from torch.nn.attention.varlen import varlen_attn

        longest, bounds = max(self._lengths), self._bounds
        assert bounds is not None
        size = _flash_size(query, value)
        queries, keys, values = (_as_flash(each, size) for each in (query, key, value))
        out = varlen_attn(
            queries,
            keys,
            values,
            bounds,
            bounds,
            longest,
            longest,
            scale=scale,
            window_size=(window - 1 if window else -1, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        assert not isinstance(out, tuple)
        return out[None, ..., : value.shape[-1]]


def can_flash(
    query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", dropout: float
) -> bool:
    """Whether FlashAttention can compute the attention of these, padded with zeros if need be."""
    return (
        has_flash(query.device, query.dtype)
        and query.dtype == key.dtype == value.dtype
        and query.shape[-1] == key.shape[-1]
        and key.shape[1] == value.shape[1]
        and query.shape[1] % key.shape[1] == 0
        and _flash_size(query, value) <= _FLASH_HEAD
        and dropout == 0
    )


def _flash_size(query: "torch.Tensor", value: "torch.Tensor") -> int:
    """Return the size of heads with which FlashAttention is called."""
    largest = max(query.shape[-1], value.shape[-1])
    return -(-largest // _FLASH_MULTIPLE) * _FLASH_MULTIPLE


def _as_flash(heads: "torch.Tensor", size: int) -> "torch.Tensor":
    """(1, heads, tokens, …) as (tokens, heads, size); zeros add nothing to a score or a mean."""
    import torch

    missing = size - heads.shape[-1]
    padded = torch.nn.functional.pad(heads, (0, missing)) if missing else heads
    return padded[0].transpose(0, 1)


def with_all_heads(
    query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return keys and values repeated for each head of the queries.

    Without FlashAttention, SDPA has no memory-efficient kernel for heads that are shared, and would
    write all scores to memory.
    """
    groups = query.shape[1] // key.shape[1]
    if groups == 1:
        return key, value
    return key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)


def has_flash(device: "torch.device", dtype: "torch.dtype") -> bool:
    """Return whether torch has FlashAttention for them: half precision, on Ampere or newer."""
    import torch

    return (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def _by_example(
    lengths: Sequence[int],
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attend: "Callable[..., torch.Tensor]",
) -> "torch.Tensor":
    """Call `attend` for one example after the other; only the outputs are copied."""
    import torch

    examples = zip(
        *(tensor.split(list(lengths), dim=2) for tensor in (query, key, value)), strict=True
    )
    return torch.cat([attend(*example).transpose(1, 2) for example in examples], dim=1)


def _attend(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    *,
    dropout: float,
    scale: float,
    window: int | None,
) -> "torch.Tensor":
    """Compute causal attention over tensors of shape (1, heads, tokens, size)."""
    import torch

    tokens = query.shape[2]
    mask = None
    if window and window < tokens:
        ages = torch.arange(tokens, device=query.device)[:, None] - torch.arange(
            tokens, device=query.device
        )
        mask = (ages >= 0) & (ages < window)
    if query.device.type == "cuda" and not has_flash(query.device, query.dtype):
        key, value = with_all_heads(query, key, value)
    return torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
