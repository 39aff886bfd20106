"""A small model of the same architecture, with every limit of its context below a few dozen tokens.

A self-check of a few tokens proves nothing about a window of 4,096 or a rotary embedding that
changes at 8,192. So the check runs on a copy of the configuration: widths, heads, experts and
layers are reduced, and windows, chunks, selected keys and original contexts are shorter than the
examples of the check. What the architecture does with them stays as it is. Knows which settings
are sizes and which are limits, by their names; knows no architecture.
"""

import copy
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import TrainingError
from dolly_assets.core.text import one_line
from dolly_assets.training.seams import model_from_config, set_config_attention, without_deepspeed

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_POSITIONS = 192  # more than a check has tokens: what learned positions have rows for
_VOCABULARY = 128
_LAYERS = 8  # at most; fewer if these already have enough of each kind of layer
_OF_EACH_KIND = 2  # as some layers share weights or keys with others of their kind
_MOST_WEIGHTS = 20_000_000

# What a setting becomes if it is larger; the first pattern that the whole name matches counts.
_SIZES: tuple[tuple[str, int], ...] = (
    (r"(num_)?(swa_|global_)?key_value_heads|num_(swa_|global_)?(key_value|kv)_heads", 2),
    (r"swa_num_key_value_heads|num_global_key_value_heads|kv_n_heads|n_head_kv", 2),
    (r"index(er)?_n_heads", 2),
    (r"(swa_|num_|conf_num_)*((en|de)coder_)?(attention_)?heads?|n_heads?", 4),
    (r"num_((en|de)coder_)?attention_heads|swa_num_attention_heads|num_query_groups", 4),
    (r"linear_num_(key_|value_)?heads", 4),
    (r"qk_nope_head_dim|(swa_|global_)?(v_)?head_dim|dim_head|attention_head_size|d_head|d_kv", 16),
    (r"kv_channels|linear_(key_|value_)?head_dim|index(er)?_head_dim|swa_v_head_dim", 16),
    (r"qk_rope_head_dim|rotary_dim|d_rel", 8),
    (r"qk_head_dim", 24),
    (r"(q|kv|o)_lora_rank|hc_lowrank|adapter_rank|laurel_rank|gated_norm_rank|loop_gate_rank", 16),
    (r"vocab_size(_per_layer_input)?|unpadded_vocab_size|decoder_vocab_size", _VOCABULARY),
    (
        r"(audio_)?vocab_size|codebook_size|\w+_vocab_size|encoder_hash_byte_group_vocab",
        _VOCABULARY,
    ),
    (r"\w*(hidden_size_per_layer_input|ple_embed_dim)", 16),
    (r"(hidden|embedding|attention_hidden|input_embedding|output_embedding)_(size|dim)", 64),
    (r"d_model|n_embd|dim_model|word_embed_proj_dim|emb_dim|lru_width|backbone_hidden_size", 64),
    (r"hidden_size_global|router_hidden_size|projector_(in|out)put_dim|out_hidden_size", 64),
    (r"adapter_(in|out|input)_(dim|size)", 64),
    (r"\w*intermediate_size\w*|n_inner|ffn_dim|\w*ffn_(dim|hidden_size)|dff|dim_ff|d_ff", 96),
    (r"d_inner|mlp_dim|feed_forward_size|depth_decoder_ffn_dim", 96),
    (r"(num|n_routed|num_local|moe_num|num_routed)_experts", 8),
    (r"zero_expert_num", 2),
    (r"(num_experts_per_(tok|token)|moe_top_?k|moe_k|num_selected_experts|top_k_experts)", 2),
    (r"n_group|num_expert_group", 2),
    (r"topk_group", 1),
    (r"model_max_length|max_source_positions|num_position_embeddings", _POSITIONS),
    (r"(mamba_)?d_state|mamba_d_state|ssm_state_size|state_size", 8),
    (r"mamba_dt_rank|time_step_rank", 8),
    (r"n_groups|mamba_n_?groups", 2),
    (r"first_k_dense_replace|num_dense_layers", 1),
    (r"codebook_dim|vector_quantization_hidden_dimension|num_filters|base_channels", 8),
    (r"image_size", 32),
    (r"patch_size", 16),
)
# Where something else begins than before: tokens that attention reaches back, and its kin.
_LIMITS: tuple[str, ...] = (
    r"\w*sliding_window(_size)?|\w*window_size|local_attention|local_attention_window_len",
    r"\w*attention_chunk_size|keep_window_size|rel_extent|floor_scale|log_scaling_n_floor",
    r"index_topk|index_block_size|indexer_budget|original_max_position_embeddings",
    r"(mamba_)?chunk_size|block_size|(local|lsh)_attn_chunk_length",
)
# A product of two of them has to be a third one.
_ROTARY = 8
_EXACT = {
    "mamba_n_heads": 8,
    "n_mamba_heads": 8,
    "num_kv_shared_layers": 1,
    "mamba_num_heads": 8,
    "mamba_d_head": 16,
    "mamba_head_dim": 16,
    "mamba_headdim": 16,
    "mamba_d_ssm": 128,
    "mamba_expand": 2,
}
_KEY_HEADS = {
    "num_key_value_heads": "num_attention_heads",
    "num_kv_heads": "num_attention_heads",
    "swa_num_key_value_heads": "swa_num_attention_heads",
    "linear_num_key_heads": "linear_num_value_heads",
}
_DEPTHS = re.compile(
    r"(num|n)_(hidden_|encoder_|decoder_)?layers?|n_layer|(en|de)coder_layers|num_blocks"
)
_CONTEXTS = re.compile(
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_target_positions|context_length"
)
_OFF = re.compile(r"\w*(dropout\w*|pdrop|layerdrop|jitter_noise)")
_TOKEN = re.compile(r"\w+_(token_(id|index)|index)|\w*token_id")
_KINDS = ("layer_types", "layers_block_type", "block_types", "attn_layers", "attention_layers")


@dataclass(frozen=True)
class Reach:
    """How far a training gets, which decides what a limit of the configuration means for it.

    Attributes:
        example: Most tokens of an example; None if any number is possible.
        sequence: Most tokens of the examples that a forward pass lays end to end.
        below: What a limit becomes that examples go beyond, in tokens.
        between: What a limit becomes that only several examples together go beyond.
    """

    example: int | None = None
    sequence: int | None = None
    below: int = 8
    between: int = 64

    def reduced(self, limit: int) -> int:
        """Return the limit of a small copy."""
        if self.example is None or limit < self.example:
            return min(limit, self.below)
        if self.sequence is None or limit < self.sequence:
            return self.between
        return _POSITIONS


EVERYWHERE = Reach()


def miniature(
    config: "PretrainedConfig", reach: Reach = EVERYWHERE, *, keep_depth: bool = False
) -> "PretrainedConfig":
    """Return a small configuration of the same architecture.

    Args:
        config: Of the model in question; it is not changed.
        reach: How long examples get. A limit that they never go beyond is none for the copy either.
        keep_depth: Whether all layers stay; else one of each kind does.

    Raises:
        TrainingError: No configuration of that kind can be reduced by the names of its settings.
    """
    try:
        return type(config).from_dict(_reduced(config.to_dict(), reach, keep_depth))
    except Exception as error:  # each kind refuses what doesn't fit in a way of its own
        raise TrainingError(
            f"no small copy of a {config.model_type} configuration can be made ({_line(error)})"
        ) from error


def smallest_limit(config: "PretrainedConfig") -> int | None:
    """Return the fewest tokens at which something of the architecture changes, if anything does."""
    return min(_limits(config.get_text_config().to_dict()), default=None)


def _limits(values: Mapping[str, Any]) -> Iterator[int]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _limits(value)
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
            is_limit = any(re.fullmatch(pattern, name) for pattern in _LIMITS)
            if is_limit or _CONTEXTS.fullmatch(name):
                yield value


def build(config: "PretrainedConfig", model_class: "type[PreTrainedModel]") -> "PreTrainedModel":
    """Return a model with random float32 weights on the CPU, in which every weight matters.

    Raises:
        TrainingError: The architecture cannot be built from that configuration, or is large.
    """
    import torch

    try:
        with torch.device("meta"), without_deepspeed():
            weights = sum(weight.numel() for weight in _new(model_class, config).parameters())
        if weights > _MOST_WEIGHTS:
            raise TrainingError(f"a small copy of it would have {weights:,} weights")
        with torch.random.fork_rng(devices=[]), without_deepspeed():
            torch.manual_seed(0)
            model = _new(model_class, config)
            randomize(model)
    except TrainingError:
        raise
    except Exception as error:  # each architecture refuses what doesn't fit in a way of its own
        raise TrainingError(
            f"no small {model_class.__name__} can be built ({_line(error)})"
        ) from error
    return model


def reduced_model(
    config: "PretrainedConfig",
    model_class: "type[PreTrainedModel]",
    reach: Reach = EVERYWHERE,
    attention: str | None = None,
) -> "PreTrainedModel":
    """Return a small float32 model of the same architecture that runs.

    Args:
        config: Of the model in question.
        model_class: Its class.
        reach: How long examples get.
        attention: The attention implementation; the class's own choice if left out.

    Raises:
        TrainingError: There is none.
    """
    import torch

    found = ""
    for keep_depth in (False, True):  # some architectures count their layers twice
        try:
            small = miniature(config, reach, keep_depth=keep_depth)
            if attention:
                set_config_attention(small, attention)
            model = build(small, model_class)
            with without_deepspeed(), torch.no_grad():
                model(input_ids=torch.arange(4)[None], use_cache=False)
        except TrainingError as error:
            found = found or str(error)
        except Exception as error:  # noqa: BLE001 a model that is built may still not run
            found = found or f"a small {model_class.__name__} does not run ({_line(error)})"
        else:
            return model
    raise TrainingError(found)


def randomize(model: "PreTrainedModel") -> None:
    """Change the weights such that none of them is zero, and that each layer changes its output."""
    import torch

    with torch.no_grad():
        for weight in model.parameters():
            if not weight.is_floating_point():
                continue
            if weight.ndim >= 2:  # also where an architecture begins with zeros
                weight.normal_(0, weight.shape[-1] ** -0.5)
            else:
                weight.add_(torch.randn_like(weight) * 0.05)


def _new(model_class: "type[PreTrainedModel]", config: "PretrainedConfig") -> "PreTrainedModel":
    config = copy.deepcopy(config)
    config.dtype = None
    return model_from_config(model_class, config)


def _reduced(values: Mapping[str, Any], reach: Reach, keep_depth: bool) -> dict[str, Any]:
    """Return the settings of a configuration, or of a part of one."""
    small: dict[str, Any] = {}
    layers, kept = (0, []) if keep_depth else _kept_layers(values)
    for name, value in values.items():
        if isinstance(value, Mapping) and value and all(str(key).isdigit() for key in value):
            small[name] = {
                str(kept.index(int(key)) if layers else key): _of_layer(values, each, reach)
                for key, each in value.items()
                if (not layers or int(key) in kept) and isinstance(each, Mapping)
            }
        elif isinstance(value, Mapping):
            small[name] = (
                value if name in ("id2label", "label2id") else _reduced(value, reach, keep_depth)
            )
        elif isinstance(value, list) and len(value) == layers and layers:
            small[name] = [value[index] for index in kept]
        elif isinstance(value, list) and _is_of_layers(name, value, layers):
            small[name] = [kept.index(index) for index in value if index in kept]
        else:
            small[name] = _reduced_value(name, value, reach, len(kept) if layers else None)
    _keep_equal(values, small)
    if _is_dynamic(values):  # such factors begin to change where the positions end
        small["max_position_embeddings"] = reach.reduced(values["max_position_embeddings"])
    _fit_rotary(small)
    return small


def _is_dynamic(values: Mapping[str, Any]) -> bool:
    """Whether the rotary embedding is one whose factors follow the length of the sequence."""
    rotary = values.get("rope_parameters") or values.get("rope_scaling")
    return bool(values.get("max_position_embeddings")) and "'dynamic'" in repr(rotary)


def _fit_rotary(small: dict[str, Any]) -> None:
    """Shorten lists of a number for each rotary frequency to the size of the small heads."""
    rotary = small.get("rope_parameters")
    if not isinstance(rotary, dict):
        return
    head = small.get("head_dim")
    if not isinstance(head, int):
        heads = small.get("num_attention_heads")
        head = small.get("hidden_size", 64) // heads if isinstance(heads, int) else 16
    for each in (rotary, *(part for part in rotary.values() if isinstance(part, dict))):
        share = each.get("partial_rotary_factor", small.get("partial_rotary_factor")) or 1.0
        count = int(small.get("qk_rope_head_dim") or head * share) // 2
        for name in ("short_factor", "long_factor"):
            if isinstance(each.get(name), list):
                each[name] = each[name][-count:]
        sections = each.get("mrope_section")
        if isinstance(sections, list) and sections:
            equal = [count // len(sections)] * len(sections)
            each["mrope_section"] = [equal[0] + count - sum(equal), *equal[1:]]


def _of_layer(values: Mapping[str, Any], layer: Mapping[str, Any], reach: Reach) -> dict[str, Any]:
    """Return the settings of one layer, which are merged over those of the whole."""
    whole = {**{name: each for name, each in values.items() if not _is_nested(each)}, **layer}
    small = _reduced(whole, reach, keep_depth=True)
    return {name: small[name] for name in layer}


def _is_nested(value: Any) -> bool:
    return isinstance(value, (Mapping, list))


def _keep_equal(values: Mapping[str, Any], small: dict[str, Any]) -> None:
    """Let heads that were as many, and sizes of heads that were as large as others, stay so."""
    for name, heads in _KEY_HEADS.items():
        if values.get(name) and values[name] == values.get(heads):
            small[name] = small[heads]
    if values.get("expand") and values.get("head_dim") and values.get("num_heads"):
        small["num_heads"] = 8  # together they are as wide as the expanded state
    wide, hidden = values.get("attention_hidden_size"), values.get("hidden_size")
    if wide and hidden and wide % hidden == 0 and values.get("num_attention_heads"):
        small["attention_hidden_size"] = wide // hidden * small["hidden_size"]
        if values.get("attention_head_dim"):
            each = small["attention_hidden_size"] // small["num_attention_heads"]
            small["attention_head_dim"] = each
    if values.get("qk_rope_head_dim"):  # some sizes are sums of others
        factor = max(values["qk_rope_head_dim"] // _ROTARY, 1)
        for name, value in values.items():
            if isinstance(value, int) and re.fullmatch(r"(?!index|linear)\w*head_dim", name):
                small[name] = max(value // factor, 4)


def _reduced_value(name: str, value: Any, reach: Reach, layers: int | None) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if _OFF.fullmatch(name):
        return type(value)(0)
    if _TOKEN.fullmatch(name) and isinstance(value, int):
        return value % _VOCABULARY if value >= 0 else value
    if name in _EXACT:
        return _EXACT[name] if value > 0 else value
    if any(re.fullmatch(pattern, name) for pattern in _LIMITS):
        return reach.reduced(int(value)) if value > 0 else value
    if _CONTEXTS.fullmatch(name) and value > 0:  # of the whole sequence, as some count positions
        return max(reach.reduced(int(value)), reach.between)
    if _DEPTHS.fullmatch(name):
        return layers if value > 0 and layers else value
    sizes = (size for pattern, size in _SIZES if re.fullmatch(pattern, name))
    return min(value, next(sizes, value))


def _kept_layers(values: Mapping[str, Any]) -> tuple[int, list[int]]:
    """How many layers a configuration has, and which of them stay: one or two of each kind."""
    depths = (name for name in values if _DEPTHS.fullmatch(name) and isinstance(values[name], int))
    name = next(depths, None)
    kinds = next((values[name] for name in _KINDS if isinstance(values.get(name), list)), None)
    layers = len(kinds) if kinds else values.get(name or "", 0) or 0
    lists = [value for value in values.values() if isinstance(value, list) and len(value) == layers]
    if not lists:
        return layers, list(range(min(layers, 2)))
    kinds_of = [repr([each[layer] for each in lists]) for layer in range(layers)]
    seen = Counter[str]()
    kept: list[int] = []
    for layer, kind in enumerate(kinds_of):
        seen[kind] += 1
        if seen[kind] <= _OF_EACH_KIND:
            kept.append(layer)
    firsts = sorted(kept, key=lambda layer: kinds_of[:layer].count(kinds_of[layer]))
    return layers, sorted(firsts[:_LAYERS])


def _is_of_layers(name: str, value: list[Any], layers: int) -> bool:
    """Whether a list names layers by their indices."""
    return bool(
        layers
        and value
        and re.search(r"layer|idx", name)
        and all(isinstance(each, int) and 0 <= each < layers for each in value)
    )


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error, 200)}"
