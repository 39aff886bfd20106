"""LoRA: the base model's weights stay as they are, and low-rank matrices beside some of them are trained (an adapter).

Hu et al., 2021, https://arxiv.org/abs/2106.09685; computed by peft. Knows folders and models, not
artifacts.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import BaseModelError, TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_CONFIG = "adapter_config.json"
MERGED = "merged"


class LoraSettings(Config):
    """Which matrices get a low-rank companion, and how large."""

    rank: int = Field(ge=1, description="Rank of the companions.")
    alpha: float = Field(gt=0, description="What they add is scaled by alpha / rank.")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout of what goes into a companion."
    )
    target_modules: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of linear layers; all but the output layer if left out.",
    )
    merge: bool = Field(default=False, description="Publish whole weights beside the adapter.")


def add_adapter(model: "PreTrainedModel", settings: LoraSettings, seed: int) -> "PreTrainedModel":
    """The model with an adapter that changes nothing yet, and which alone is trained.

    Raises:
        TrainingError: The model has no layers of these names.
    """
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules) if settings.target_modules else "all-linear",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the same on every rank
        try:
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
        except ValueError as error:
            raise TrainingError(f"recipe.lora.target_modules: {error}") from error
    return cast("PreTrainedModel", adapted)


def finish(checkpoint: Path, base: Path, *, merge: bool) -> None:
    """Makes a saved adapter's folder fit for publishing: no path of this machine in it, and `merged/` if asked for."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = checkpoint / ADAPTER_CONFIG
    said = json.loads(config.read_text())
    config.write_text(json.dumps({**said, "base_model_name_or_path": None}, indent=2))
    if merge:
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", local_files_only=True)
        with_adapter(model, checkpoint).save_pretrained(checkpoint / MERGED)
        AutoTokenizer.from_pretrained(checkpoint, local_files_only=True).save_pretrained(
            checkpoint / MERGED
        )


def with_adapter(model: "PreTrainedModel", adapter: Path) -> "PreTrainedModel":
    """The model with what an adapter adds to its weights.

    Raises:
        BaseModelError: The adapter is not one of this model.
    """
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(model, str(adapter), autocast_adapter_dtype=False)
        return cast("PreTrainedModel", adapted.merge_and_unload(safe_merge=True))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BaseModelError(
            f"{adapter} does not load as an adapter of {type(model).__name__}: {error}"
        ) from error
