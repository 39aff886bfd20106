"""The sizes of a base model, read from its configuration: a folder's, the Hub's, or a known one's.

It needs no torch; the number of parameters is counted from the configuration.
"""

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, TypeAdapter

from dolly_assets.core.base import Config
from dolly_assets.core.errors import BaseModelError
from dolly_assets.core.text import one_line
from dolly_assets.planning.model_shape import ModelShape, read_config
from dolly_assets.training.base_model.config import BaseModelConfig, is_path
from dolly_assets.training.context import Context

# Architectures of transformers whose feed-forward part has two matrices; all others have a gate.
_WITHOUT_GATE = (
    *("biogpt", "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox"),
    *("gptj", "mpt", "nemotron", "opt", "phi", "starcoder2", "xglm"),
)
_ENDINGS = ("ForCausalLM", "LMHeadModel")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


class Base(Config):
    """A base model: where it comes from, its licence and its configuration."""

    source: str = Field(description="A Hub id, or a local folder.")
    license: str = Field(default="unknown", description="SPDX id or Hub tag of its licence.")
    note: str = Field(default="", description="What to know before it is trained.")
    packing: bool = Field(default=True, description="Whether examples can share rows.")
    has_template: bool = Field(
        default=True, description="Whether it is known to come with a chat template."
    )
    config: dict[str, JsonValue] = Field(description="What matters of its config.json.")

    @functools.cached_property
    def shape(self) -> ModelShape:
        """Its sizes; raises BaseModelError where the configuration does not state them."""
        rows = self.config.get("vocab_size")
        tied = self.config.get("tie_word_embeddings", True) is not False
        if not isinstance(rows, int):
            raise BaseModelError(f"{self.source}: its config.json states no vocab_size")
        sizes = ModelShape.of(
            self.config,
            parameters=1,
            vocabulary_rows=rows,
            tied_embeddings=tied,
            name=self.source,
        )
        parameters, inactive = _parameters(sizes, self.config)
        found = {
            "parameters": parameters,
            "inactive": inactive,
            "gated": self.config.get("model_type") not in _WITHOUT_GATE,
            "context": Context.of(self.config),
        }
        return sizes.model_copy(update=found)


@functools.cache
def known_bases() -> dict[str, Base]:
    """Return the base models that are known without a connection, by their Hub id."""
    from dolly_assets.core.yaml_text import parse_yaml

    file = resources.files("dolly_assets.scaffolding").joinpath("known_bases.yaml")
    entries = parse_yaml(file.read_bytes(), "known_bases.yaml")["bases"]
    bases = TypeAdapter(list[Base]).validate_python(entries)
    return {base.source: base for base in bases}


def find_base(source: str, license_id: str | None = None) -> Base:
    """Return a base model that can be fine-tuned.

    Args:
        source: A Hub id or a folder.
        license_id: Its licence, where it is not known.

    Raises:
        BaseModelError: It has no configuration that can be read, is no causal language model, or
            is quantized.
    """
    BaseModelConfig(source=source, license=license_id or "unknown")
    base = known_bases().get(source)
    if base is None:
        config = dict(_config_of(source))
        _check(config, source)
        base = Base(source=source, config=config, has_template=_has_template(source))
    return base.model_copy(update={"license": license_id}) if license_id else base


def _config_of(source: str) -> Mapping[str, Any]:
    if source.endswith(".gguf"):
        raise BaseModelError(
            f"{source}: a GGUF file has no config.json to plan from: write its family by hand"
        )
    if not is_path(source):
        return read_config(_from_hub(source), source)
    file = Path(source).expanduser() / "config.json"
    try:
        return read_config(file.read_bytes(), source)
    except OSError as error:
        raise BaseModelError(
            f"{file}: {error.strerror}: expected a folder written by save_pretrained"
        ) from error


def _has_template(source: str) -> bool:
    """Return whether a folder holds a chat template; of the Hub, preparing the model will know."""
    folder = Path(source).expanduser()
    settings = folder / "tokenizer_config.json"
    return is_path(source) and (
        (folder / "chat_template.jinja").is_file()
        or (settings.is_file() and b'"chat_template"' in settings.read_bytes())
    )


def _from_hub(source: str) -> bytes:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source, "config.json")).read_bytes()
    except Exception as error:
        raise BaseModelError(
            f"{source}: its config.json cannot be read from the Hub ({one_line(error)}): download "
            f"the model and name its folder, or choose one of {', '.join(known_bases())}"
        ) from error


def _check(config: Mapping[str, Any], source: str) -> None:
    architectures = config.get("architectures") or []
    if not any(str(name).endswith(_ENDINGS) for name in architectures):
        raise BaseModelError(
            f"{source}: {', '.join(map(str, architectures)) or 'a model without architectures'} is "
            "not a causal language model: expected an architecture that ends in ForCausalLM"
        )
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "") if isinstance(quantized, Mapping) else ""
        raise BaseModelError(
            f"{source}: its weights are quantized ({method or 'unknown'}), and quantized weights "
            "are not trained: name a copy in bfloat16"
        )


def _parameters(sizes: ModelShape, config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the parameters, without biases, and how many of them a token does not pass."""
    embeddings = sizes.vocabulary_rows * sizes.hidden * (1 if sizes.tied_embeddings else 2)
    attention = 2 * sizes.hidden * (sizes.attention + sizes.key_value)
    matrices = 2 if config.get("model_type") in _WITHOUT_GATE else 3
    experts = _size(config, _EXPERTS) or 1
    passed = (_size(config, ("num_experts_per_tok",)) or 1) if experts > 1 else 1
    inner = (experts > 1 and _size(config, ("moe_intermediate_size",))) or sizes.inner
    expert = matrices * sizes.hidden * inner
    layer = attention + expert * experts + 2 * sizes.hidden
    parameters = embeddings + sizes.layers * layer + sizes.hidden
    return parameters, sizes.layers * expert * (experts - passed)


def _size(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    found = (config.get(name) for name in names)
    return next((size for size in found if isinstance(size, int) and size > 0), None)
