"""What a family's YAML, or a command line, states about an export. It opens no file."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from dolly_assets.core.base import Config
from dolly_assets.core.hashing import json_digest

Format = Literal["hf", "lora", "gguf", "ollama"]
FORMATS: tuple[Format, ...] = ("hf", "lora", "gguf", "ollama")
Quantization = Literal["f32", "f16", "q8_0"]
QUANTIZATIONS: tuple[Quantization, ...] = ("f32", "f16", "q8_0")
WITH_GGUF: tuple[Format, ...] = ("gguf", "ollama")
"""The formats that hold a GGUF file."""

VERSION = 1
"""Raised when the same model and settings give another folder."""


class Export(Config):
    """How the champion is exported, and how its answers are compared with the checkpoint's."""

    formats: tuple[Format, ...] = Field(
        min_length=1, description="The formats: hf, lora, gguf and ollama, each a folder."
    )
    quantize: Quantization = Field(
        default="f16", description="How a GGUF file stores matrices: f32, f16 or q8_0."
    )
    prompts: int = Field(
        default=16, ge=1, description="Held-out prompts whose answers are compared."
    )
    max_new_tokens: int = Field(
        default=64, ge=1, description="Length of the longest compared answer, in tokens."
    )

    @model_validator(mode="after")
    def _formats_differ(self) -> Self:
        if len(set(self.formats)) < len(self.formats):
            raise ValueError(f"formats names one twice: {', '.join(self.formats)}")
        return self

    def key(self, weights: str, export_format: Format) -> str:
        """Return the digest that names the export of some weights in a format."""
        quantize = self.quantize if export_format in WITH_GGUF else None
        compared: Sequence[int] = (self.prompts, self.max_new_tokens)
        return json_digest([VERSION, weights, export_format, quantize, *compared])
