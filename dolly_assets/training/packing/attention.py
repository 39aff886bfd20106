"""Attention within each example of a packed sequence, for every model that takes its attention from transformers.

Registered under NAME in transformers' AttentionInterface. Such a model asks for no mask; which
tokens belong together is said by `PackedAttention.begin` before a forward pass, and holds until the
next: gradient checkpointing computes attention again in the backward pass.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import TrainingError

if TYPE_CHECKING:
    import torch

NAME = "within_examples"
# Arguments of other attention functions that change what is computed, and that this one doesn't
# know.
_UNKNOWN = ("softcap", "s_aux", "position_bias", "head_mask")
_FLASH_HEAD = (
    256  # the largest size of a head that FlashAttention takes; and its form here knows no dropout
)


class PackedAttention:
    """The attention function, and where the examples lie that it is called for."""

    def __init__(self) -> None:
        self._lengths: tuple[int, ...] = ()
        self._bounds: torch.Tensor | None = None

    def register(self) -> None:
        """Makes NAME a choice of `attn_implementation`; the last one registered is the one that is called."""
        from transformers import AttentionInterface

        AttentionInterface.register(NAME, self)

    def begin(self, lengths: Sequence[int], device: "torch.device") -> None:
        """Says how long the examples are that the next forward pass is for, from its first token on."""
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
        """Attention of query (1, heads, tokens, size) over key and value (1, key heads, tokens, size).

        Returns:
            (1, tokens, heads, size), and None for the scores.

        Raises:
            TrainingError: It is asked for something it can't do.
        """
        unknown = [name for name in _UNKNOWN if others.get(name) is not None]
        if (
            attention_mask is not None
            or unknown
            or query.shape[0] != 1
            or query.shape[2] != sum(self._lengths)
        ):
            raise TrainingError(
                f"{NAME} attention: {type(module).__name__} asks for what it can't do: "
                + (
                    ", ".join(unknown)
                    or f"a mask, or other examples than those of {sum(self._lengths)} tokens"
                )
            )
        scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
        window = sliding_window if sliding_window and sliding_window < max(self._lengths) else None
        if has_flash(query.device, query.dtype) and query.shape[-1] <= _FLASH_HEAD and dropout == 0:
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
        """FlashAttention over all examples at once."""
        from torch.nn.attention.varlen import varlen_attn

        longest, bounds = max(self._lengths), self._bounds
        assert bounds is not None
        out = varlen_attn(
            query[0].transpose(0, 1),
            key[0].transpose(0, 1),
            value[0].transpose(0, 1),
            bounds,
            bounds,
            longest,
            longest,
            scale=scale,
            window_size=(window - 1 if window else -1, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        assert not isinstance(out, tuple)
        return out[None]


def has_flash(device: "torch.device", dtype: "torch.dtype") -> bool:
    """Whether torch's FlashAttention takes tensors of that kind: half precision, on Ampere or newer."""
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
    """Calls `attend` for one example after the other: nothing is padded, and nothing copied but the answers."""
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
    """Causal attention of (1, heads, tokens, size)."""
    import torch

    tokens = query.shape[2]
    mask = None
    if window and window < tokens:
        ages = torch.arange(tokens, device=query.device)[:, None] - torch.arange(
            tokens, device=query.device
        )
        mask = (ages >= 0) & (ages < window)
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
