"""A batch whose rows come and go between two tokens: who joins waits for nobody's answer to end.

Rows are padded on the left, and the padding is masked, so a row's logits are those that it has
alone, up to the order of floating-point sums. The cache of keys and values is as wide as the
longest row, and becomes narrower when that leaves. It knows token ids and logits; which token is
next, and when a row ends, is the caller's to decide.
"""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class RollingBatch:
    """Rows that are continued together, token by token.

    Call it in one thread, within `torch.inference_mode()`.

    Attributes:
        has_one_row: Whether the model has layers that keep something else than keys and values of
            all tokens, such as a state, which has no padding: its rows are continued one by one.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        """Prepare an empty batch.

        Args:
            model: A causal language model in evaluation mode.
        """
        self.has_one_row = not _caches_tokens(model)
        self._model = model
        self._options = frozenset(inspect.signature(model.forward).parameters)
        self._cache: Any = None
        self._mask: torch.Tensor | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return 0 if self._mask is None else self._mask.shape[0]

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return 0 if self._mask is None else self._mask.shape[1]

    @property
    def cache_bytes(self) -> int:
        """Memory of the cached keys and values, padding included."""
        if self._cache is None or self.has_one_row:
            return 0
        return sum(
            keys.nbytes + values.nbytes
            for keys, values in _tensors(self._cache)
            if keys is not None
        )

    def join(self, prompts: Sequence[Sequence[int]]) -> "torch.Tensor":
        """Append a row for each prompt; return their (prompts, vocabulary) next logits."""
        import torch

        assert not self.has_one_row or self.rows + len(prompts) == 1, "there is one row at a time"
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(each)) + list(each) for each in prompts])
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
        logits, cache, mask = self._forward(ids, mask, self._new_cache())
        if self._mask is None:
            self._cache, self._mask = cache, mask
        else:
            self._cache, self._mask = _joined(self._cache, self._mask, cache, mask)
        return logits

    def step(self, tokens: Sequence[int]) -> "torch.Tensor":
        """Append a token to each row; return (rows, vocabulary) logits of the next ones."""
        import torch

        assert self._mask is not None, "a batch without rows has no next token"
        ids = torch.tensor(tokens)[:, None]
        mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        logits, self._cache, self._mask = self._forward(ids, mask, self._cache)
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all other rows, and the columns that only they needed."""
        import torch

        if not rows or self._mask is None:
            self._cache = self._mask = None
            return
        if len(rows) == self.rows:
            return
        index = torch.tensor(rows, device=self._mask.device)
        mask = self._mask[index]
        first = int(mask.any(0).int().argmax())
        self._mask = mask[:, first:]
        self._cache = _cache(
            (keys[index.to(keys.device), :, first:], values[index.to(keys.device), :, first:])
            for keys, values in _tensors(self._cache)
        )

    def _new_cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self._model.config) if self.has_one_row else _cache()

    def _forward(
        self, ids: "torch.Tensor", mask: "torch.Tensor", cache: Any
    ) -> tuple["torch.Tensor", Any, "torch.Tensor"]:
        """Return the logits of the last column in float32, and the cache and mask after it."""
        device = self._model.device
        mask = mask.to(device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        stated = {"position_ids": positions, "logits_to_keep": 1}
        if not self.has_one_row:  # which has no padding
            stated["attention_mask"] = mask
        output: Any = self._model(
            input_ids=ids.to(device),
            cache=cache,
            use_cache=True,
            **{name: value for name, value in stated.items() if name in self._options},
        )
        return output.logits[:, -1].float(), output.cache, mask


def _caches_tokens(model: "PreTrainedModel") -> bool:
    """Return whether all layers cache keys and values of tokens."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _cache(layers: Any = None) -> Any:
    """Return a cache of all positions in each layer; the mask alone limits sliding windows."""
    from transformers import DynamicCache

    return DynamicCache(layers)


def _tensors(cache: Any) -> list[tuple[Any, Any]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _joined(
    cache: Any, mask: "torch.Tensor", other_cache: Any, other_mask: "torch.Tensor"
) -> tuple[Any, "torch.Tensor"]:
    """Return the rows of both, one below the other, aligned on the right."""
    import torch
    from torch.nn.functional import pad

    width = max(mask.shape[1], other_mask.shape[1])
    masks = [pad(each, (width - each.shape[1], 0)) for each in (mask, other_mask)]
    layers = [
        tuple(
            torch.cat([pad(each, (0, 0, width - each.shape[-2], 0)) for each in pair])
            for pair in zip(one, other, strict=True)
        )
        for one, other in zip(_tensors(cache), _tensors(other_cache), strict=True)
    ]
    return _cache(layers), torch.cat(masks)
