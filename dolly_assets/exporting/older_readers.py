"""Configurations that transformers 4, and servers built on it, read as transformers 5 does.

transformers 5 renamed keys. Version 4 takes the default where it does not find the old key, without
a warning: a model with another base of its rotary embedding would answer nonsense. So each key is
written under both names; version 5 reads either. It knows JSON alone.
"""

from typing import Any

_ROTARY_BASE = {"gpt_neox": "rotary_emb_base"}
_ROTARY_SHARE = {"gpt_neox": "rotary_pct"}
_NOT_SCALING = ("rope_theta", "partial_rotary_factor")
_LOCAL = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
_OF_THIS_MACHINE = ("is_local", "local_files_only", "name_or_path", "_name_or_path")


def portable_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a model's configuration with former names beside the present ones."""
    found = {key: value for key, value in config.items() if key != "_model_name_or_path"}
    if isinstance(found.get("dtype"), str):
        found["torch_dtype"] = found["dtype"]
    rope = found.get("rope_parameters")
    if not isinstance(rope, dict):
        return found
    if "full_attention" in rope:
        return {**found, **_by_layer(rope)}
    return {**found, **_of_all_layers(rope, str(found.get("model_type")))}


def _of_all_layers(rope: dict[str, Any], model_type: str) -> dict[str, Any]:
    former: dict[str, Any] = {}
    if "rope_theta" in rope:
        former[_ROTARY_BASE.get(model_type, "rope_theta")] = rope["rope_theta"]
    if "partial_rotary_factor" in rope:
        name = _ROTARY_SHARE.get(model_type, "partial_rotary_factor")
        former[name] = rope["partial_rotary_factor"]
    if rope.get("rope_type", "default") != "default":
        former["rope_scaling"] = _scaling(rope)
    return former


def _by_layer(rope: dict[str, Any]) -> dict[str, Any]:
    """Return the former keys of a model, such as Gemma 3, whose kinds of layers differ."""
    former = {
        name: rope[kind]["rope_theta"]
        for kind, name in _LOCAL.items()
        if "rope_theta" in rope.get(kind, {})
    }
    of_all = rope["full_attention"]
    if of_all.get("rope_type", "default") != "default":
        former["rope_scaling"] = _scaling(of_all)
    return former


def _scaling(rope: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in rope.items() if key not in _NOT_SCALING}


def portable_tokenizer_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's configuration that either version reads, without this machine's paths.

    Version 5 calls every fast tokenizer `TokenizersBackend`, and its list of further special tokens
    is a mapping in version 4.
    """
    found = {key: value for key, value in config.items() if key not in _OF_THIS_MACHINE}
    if found.get("tokenizer_class") in (None, "TokenizersBackend"):
        found["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(found.get("extra_special_tokens"), list):
        found["additional_special_tokens"] = found.pop("extra_special_tokens")
    found.pop("backend", None)
    return found
