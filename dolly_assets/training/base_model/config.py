"""What a family's YAML states about its base model.

It validates names and combinations; it opens no file and no connection.
"""

import re
from pathlib import Path
from typing import Self

from pydantic import Field, JsonValue, field_validator, model_validator

from dolly_assets.core.base import Config
from dolly_assets.core.urls import check_no_password, without_secrets

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class UntrainedModel(Config):
    """A model with random weights and its own tokenizer, for demos and tests without a download."""

    config: dict[str, JsonValue] = Field(
        description="A transformers configuration with its `model_type` and without `vocab_size`."
    )
    vocabulary_size: int = Field(
        ge=320,
        description="Size of the byte-level BPE vocabulary, special tokens included; an upper "
        "limit, since a few short texts may yield fewer tokens.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random weights.")

    @field_validator("config")
    @classmethod
    def _has_a_type_and_no_vocabulary(cls, config: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if not isinstance(config.get("model_type"), str):
            raise ValueError(
                "model_type is missing: name a transformers architecture, such as gpt2 or llama"
            )
        if "vocab_size" in config:
            raise ValueError(
                "vocab_size follows from the tokenizer: set vocabulary_size beside config instead"
            )
        return config


class BaseModelConfig(Config):
    """Where a base model comes from."""

    source: str | None = Field(
        default=None,
        description="A Hub id (owner/name), a local folder that begins with /, ./, ../ or ~, "
        "or a path that ends in .gguf.",
    )
    untrained: UntrainedModel | None = Field(
        default=None, description="A model with random weights, instead of a source."
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        description="A branch, tag or commit of the Hub repository; for Hub ids only.",
    )
    license: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$",
        description="SPDX id or Hub tag of the weights' licence, such as apache-2.0.",
    )

    @field_validator("source")
    @classmethod
    def _is_a_path_or_a_hub_id(cls, source: str | None) -> str | None:
        if source is None or is_path(source) or _HUB_ID.fullmatch(source):
            return source
        # Not a ValueError: Dagster shows the input of those.
        check_no_password(source, "base_model.source")
        raise ValueError(
            f"{without_secrets(source)!r} is neither a Hub id, such as EleutherAI/gpt-j-6b, nor a "
            "path: begin a local folder with /, ./, ../ or ~, and end a GGUF file in .gguf"
        )

    @model_validator(mode="after")
    def _names_one_model(self) -> Self:
        if (self.source is None) == (self.untrained is None):
            raise ValueError("name exactly one of source and untrained")
        if self.revision is not None and (self.source is None or is_path(self.source)):
            raise ValueError(
                f"revision {self.revision!r} is for Hub ids only, "
                f"and {self.source or 'untrained'} is not one"
            )
        return self

    def resolved(self, relative_to: Path) -> Self:
        """Return a copy whose local path is absolute; relative paths count from `relative_to`."""
        if self.source is None or not is_path(self.source):
            return self
        path = (relative_to / Path(self.source).expanduser()).resolve()
        return self.model_copy(update={"source": str(path)})


def is_path(source: str) -> bool:
    """Return whether a source is a local path and not a Hub id."""
    return (
        source.startswith(("/", "./", "../", "~"))
        or source in (".", "..")
        or source.endswith(".gguf")
    )
