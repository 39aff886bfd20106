"""What GGUF states of each architecture, and how its tensors differ from transformers'.

It knows configurations and single tensors; files are the business of `gguf_file.py`. The names and
meanings are llama.cpp's.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dolly_assets.core.errors import ConfigurationError

if TYPE_CHECKING:
    import torch
    from gguf import GGUFWriter


class Change(NamedTuple):
    """How a tensor differs in GGUF, and how transformers' is had back."""

    apply: Callable[["torch.Tensor"], "torch.Tensor"]
    undo: Callable[["torch.Tensor"], "torch.Tensor"]


_GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3_text": 62}  # llama.cpp scales their queries otherwise


@dataclass(frozen=True)
class Architecture:
    """An architecture that GGUF knows.

    Attributes:
        name: GGUF's name of it.
        describe: Writes what a configuration states.
        change: Returns how a tensor of transformers' name is changed; None leaves it as it is.
        activations: Activation functions that llama.cpp computes in it.
        needs_output: Whether an output layer that shares its weights is written nevertheless.
        computed: Returns tensors that follow from a configuration, by GGUF's names.
    """

    name: str
    describe: Callable[["GGUFWriter", Any], None]
    change: Callable[[str, Any], Change | None] = lambda name, config: None
    activations: tuple[str, ...] = ("silu", "swish")
    needs_output: bool = False
    computed: Callable[[Any], Mapping[str, "torch.Tensor"]] = field(default=lambda config: {})


def architecture_of(config: Any) -> Architecture:
    """Return the architecture of a configuration.

    Raises:
        ConfigurationError: GGUF lacks it, or this export does not write it.
    """
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        raise ConfigurationError(
            f"a GGUF file of the architecture {config.model_type} cannot be written: known are "
            f"{', '.join(ARCHITECTURES)}; export it as hf, and convert that folder with llama.cpp"
        )
    activation = str(getattr(config, "hidden_activation", None) or config.hidden_act)
    if activation not in found.activations:
        raise _unsupported(config, f"the activation {activation}")
    return found


def _unsupported(config: Any, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"a GGUF file of this {config.model_type} cannot be written: llama.cpp does not compute "
        f"{what} in this architecture; export it as hf"
    )


def _head_dim(config: Any) -> int:
    found = getattr(config, "head_dim", None)
    return found or config.hidden_size // config.num_attention_heads


def _sizes(writer: "GGUFWriter", config: Any) -> None:
    """Write what all architectures state."""
    window = getattr(config, "sliding_window", None)
    has_no_window = config.model_type in ("mistral", "qwen2", "qwen3")
    is_used = getattr(config, "use_sliding_window", config.model_type == "mistral")
    context = config.max_position_embeddings
    # llama.cpp has no window in these: a context that fits it is computed alike.
    writer.add_context_length(
        min(context, window) if has_no_window and is_used and window else context
    )
    writer.add_vocab_size(config.vocab_size)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)


def _rotary(config: Any, kind: str = "full_attention") -> dict[str, Any]:
    found: dict[str, Any] = config.rope_parameters
    return found.get(kind, found)


def _scaling(writer: "GGUFWriter", config: Any) -> None:
    """Write how the rotary embedding is scaled; `llama3` is a tensor instead."""
    from gguf import RopeScalingType

    rope = _rotary(config)
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)
    elif kind not in ("default", "llama3"):
        raise _unsupported(config, f"rotary embeddings of the type {kind}")


def _gated(writer: "GGUFWriter", config: Any) -> None:
    """Write what Llama-, Qwen- and Gemma-like models state."""
    _sizes(writer, config)
    head_dim = _head_dim(config)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(_rotary(config)["rope_theta"])
    _scaling(writer, config)


def _gemma2(writer: "GGUFWriter", config: Any) -> None:
    _gated(writer, config)
    _check_query_scale(config)
    writer.add_sliding_window(config.sliding_window)
    _check_layers(config, period=2)
    if config.attn_logit_softcapping:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _gemma3(writer: "GGUFWriter", config: Any) -> None:
    _gated(writer, config)
    _check_query_scale(config)
    writer.add_sliding_window(config.sliding_window)
    _check_layers(config, period=6)
    writer.add_rope_freq_base_swa(_rotary(config, "sliding_attention")["rope_theta"])
    if config.attn_logit_softcapping or config.final_logit_softcapping:
        raise _unsupported(config, "capped logits")


def _check_query_scale(config: Any) -> None:
    """Raise ConfigurationError if queries are scaled otherwise than llama.cpp does it."""
    scaled = _head_dim(config)
    if config.num_hidden_layers == _GEMMA_27B_LAYERS[config.model_type]:
        scaled = config.hidden_size // config.num_attention_heads
    if config.query_pre_attn_scalar != scaled:
        raise _unsupported(config, f"query_pre_attn_scalar {config.query_pre_attn_scalar}")


def _check_layers(config: Any, *, period: int) -> None:
    """Raise ConfigurationError unless every `period`-th layer, and no other, sees everything."""
    expected = [
        "full_attention" if (layer + 1) % period == 0 else "sliding_attention"
        for layer in range(config.num_hidden_layers)
    ]
    if list(config.layer_types) != expected:
        raise _unsupported(config, "this order of layer_types")


def _gpt_neox(writer: "GGUFWriter", config: Any) -> None:
    _sizes(writer, config)
    rope = _rotary(config)
    rotary_dim = int(_head_dim(config) * rope.get("partial_rotary_factor", 1.0))
    writer.add_rope_dimension_count(rotary_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_parallel_residual(config.use_parallel_residual)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    if rope.get("rope_type", "default") != "default":
        raise _unsupported(config, f"rotary embeddings of the type {rope['rope_type']}")


def _llama_change(name: str, config: Any) -> Change | None:
    """Pair the rows of queries and keys as llama.cpp rotates them: neighbours, not halves."""
    heads = {
        "q_proj": config.num_attention_heads,
        "k_proj": config.num_key_value_heads,
    }
    layer = name.split(".")[-2]
    if layer not in heads:
        return None
    count = heads[layer]
    return Change(
        lambda tensor: _swapped(tensor, count, 2, -1, first=1),
        lambda tensor: _swapped(tensor, count, -1, 2, first=1),
    )


def _gpt_neox_change(name: str, config: Any) -> Change | None:
    """Put all queries first, then all keys, then all values, instead of each head's three."""
    if ".query_key_value." not in name:
        return None
    heads = config.num_attention_heads
    return Change(
        lambda tensor: _swapped(tensor, heads, 3, -1, first=0),
        lambda tensor: _swapped(tensor, 3, heads, -1, first=0),
    )


def _swapped(tensor: "torch.Tensor", *sizes: int, first: int) -> "torch.Tensor":
    """Return a tensor whose rows, split into three dimensions, have two of them exchanged."""
    split = tensor.reshape(*sizes, *tensor.shape[1:])
    return split.transpose(first, first + 1).reshape(tensor.shape)


def _gemma_change(name: str, config: Any) -> Change | None:
    """Add the 1 that transformers adds to the weights of norms when it computes."""
    if not name.endswith("norm.weight"):
        return None
    return Change(lambda tensor: tensor.float() + 1, lambda tensor: tensor - 1)


def _llama_computed(config: Any) -> Mapping[str, "torch.Tensor"]:
    """Return the divisors of the frequencies, for the rotary embedding of Llama 3."""
    import torch

    rope = _rotary(config)
    if rope.get("rope_type") != "llama3":
        return {}
    head_dim, factor = _head_dim(config), rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    frequencies = rope["rope_theta"] ** -(
        torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    )
    wavelengths = 2 * math.pi / frequencies
    smooth = ((original / wavelengths - low) / (high - low)).clamp(0, 1)
    divisors = 1 / ((1 - smooth) / factor + smooth)
    return {"rope_freqs.weight": divisors.float()}


_LLAMA = Architecture("llama", _gated, _llama_change, computed=_llama_computed)
_GELU = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture("qwen2", _gated),
    "qwen3": Architecture("qwen3", _gated),
    "gemma": Architecture("gemma", _gated, _gemma_change, _GELU),
    "gemma2": Architecture("gemma2", _gemma2, _gemma_change, _GELU),
    "gemma3_text": Architecture("gemma3", _gemma3, _gemma_change, _GELU),
    "gpt_neox": Architecture("gptneox", _gpt_neox, _gpt_neox_change, _GELU, needs_output=True),
}
"""By transformers' `model_type`."""
