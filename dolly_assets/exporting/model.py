"""What is exported: folders of weights, and how the model is prompted. It opens no file."""

from dataclasses import dataclass
from pathlib import Path

from dolly_assets.tokenization.prompt_style import PromptStyle


@dataclass(frozen=True)
class ExportedModel:
    """A model to export.

    Attributes:
        weights: Its folder, or that of the base model of an adapter.
        adapter: A LoRA adapter of these weights.
        template: The name of its chat template, as its attributes state it; None is `dolly`.
        style: The wording of the template `dolly`; None for the one that the weights carry.
        base: The Hub id of the adapter's base model, if that is exactly what it was trained on.
        base_revision: Its commit.
    """

    weights: Path
    adapter: Path | None = None
    template: str | None = None
    style: PromptStyle | None = None
    base: str | None = None
    base_revision: str | None = None
