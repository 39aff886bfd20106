"""The sizes of a decoder-only transformer, read from its configuration.

It needs neither torch nor transformers.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field
from pydantic_core import from_json

from dolly_assets.core.base import Config
from dolly_assets.core.errors import BaseModelError, some_of
from dolly_assets.core.text import one_line
from dolly_assets.training.context import Context
from dolly_assets.training.flops import ModelFlops
from dolly_assets.training.packing.expected import ExpectedLayouts

_LARGEST = 2**40  # of sizes; what is above it is none
# The names that architectures of transformers have for the same thing.
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
_KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
_INNER = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "decoder_ffn_dim")
_DROPOUT = ("hidden_dropout", "resid_pdrop", "resid_dropout", "hidden_dropout_prob", "dropout")


class ModelShape(Config):
    """The sizes of a dense decoder.

    Mixtures of experts are planned as if each token passed all of their weights.
    """

    parameters: int = Field(ge=1, description="Number of parameters; shared ones count once.")
    vocabulary_rows: int = Field(ge=1, description="Rows of the embeddings.")
    tied_embeddings: bool = Field(description="Whether the output layer shares the embeddings.")
    layers: int = Field(ge=1, description="Number of layers.")
    hidden: int = Field(ge=1, description="Width of the residual stream.")
    attention: int = Field(ge=1, description="Number of query heads times their size.")
    key_value: int = Field(ge=1, description="Number of key heads times their size.")
    inner: int = Field(ge=1, description="Width inside the feed-forward part.")
    gated: bool = Field(
        description="Whether the feed-forward part has a gate besides its first matrix."
    )
    dropout: bool = Field(description="Whether dropout keeps masks for the backward pass.")
    inactive: int = Field(
        default=0, ge=0, description="Parameters of experts that a token does not pass."
    )
    layouts: ExpectedLayouts | None = Field(
        default=None, description="How examples can be laid out; None if it is not known."
    )
    context: Context | None = Field(default=None, description="How long examples may be.")

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        *,
        parameters: int,
        vocabulary_rows: int,
        tied_embeddings: bool,
        name: str,
    ) -> Self:
        """Read the sizes from a configuration.

        Args:
            config: What `read_config` returns.
            parameters: Parameters of the prepared model, whose embeddings may have grown.
            vocabulary_rows: Rows of its embeddings.
            tied_embeddings: Whether its output layer shares the embeddings.
            name: The model's name, for the error.

        Raises:
            BaseModelError: It has no width or number of layers under any name known here, or sizes
                that are none.
        """
        text = _text_config(config)
        hidden, layers = _first(text, _HIDDEN), _first(text, _LAYERS)
        if not hidden or not layers:
            raise BaseModelError(
                f"{name}: its training cannot be planned: config.json needs one of "
                f"{', '.join(_HIDDEN)} and one of {', '.join(_LAYERS)}; "
                f"found {some_of(sorted(text), 12)}"
            )
        heads = _first(text, _HEADS) or max(1, hidden // 64)
        head_size = _first(text, ("head_dim",)) or hidden // heads
        key_value_heads = _first(text, _KEY_VALUE_HEADS) or (
            1 if text.get("multi_query") else heads
        )
        attention, key_value, inner = (
            heads * head_size,
            key_value_heads * head_size,
            _first(text, _INNER) or 4 * hidden,
        )
        embeddings = vocabulary_rows * hidden * (1 if tied_embeddings else 2)
        matrices = (parameters - embeddings) / layers - 2 * hidden * (attention + key_value)
        return cls(
            parameters=parameters,
            vocabulary_rows=vocabulary_rows,
            tied_embeddings=tied_embeddings,
            layers=layers,
            hidden=hidden,
            attention=attention,
            key_value=key_value,
            inner=inner,
            # Three matrices instead of two: configurations do not state it.
            gated=matrices > 2.5 * hidden * inner,
            dropout=any(text.get(key) for key in _DROPOUT),
        )

    @property
    def largest_layer(self) -> int:
        """Parameters of the largest single matrix, which ZeRO 3 gathers whole."""
        return self.hidden * max(self.vocabulary_rows, self.inner)

    @property
    def flops(self) -> ModelFlops:
        """What the count of operations needs."""
        head = self.vocabulary_rows * self.hidden
        return ModelFlops(
            body_weights=self.parameters
            - self.inactive
            - head * (1 if self.tied_embeddings else 2),
            head_weights=head,
            attention_width=self.layers * self.attention,
        )


def read_config(data: bytes, name: str) -> Mapping[str, Any]:
    """Return the content of a config.json.

    Args:
        data: Its bytes.
        name: What the error calls its model.

    Raises:
        BaseModelError: It is not a JSON object.
    """
    try:
        config = from_json(data)
    except ValueError as error:
        raise BaseModelError(f"{name}: its config.json is not JSON: {one_line(error)}") from error
    if not isinstance(config, dict):
        raise BaseModelError(f"{name}: its config.json is not a JSON object")
    return config


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a configuration that describes the language model."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) else config


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Return the first of these that is a size."""
    found = (config.get(name) for name in names)
    return next((size for size in found if isinstance(size, int) and 0 < size <= _LARGEST), None)
