"""LoRA: the base model stays as it is, and low-rank matrices beside some of its own are trained.

Hu et al., 2021, https://arxiv.org/abs/2106.09685; computed by peft. These matrices are the adapter.
The module knows folders and models, not artifacts.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import BaseModelError, TrainingError
from dolly_assets.core.text import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_CONFIG = "adapter_config.json"
MERGED = "merged"


class LoraSettings(Config):
    """Which matrices get a low-rank companion, and how large the companions are."""

    rank: int = Field(ge=1, description="Rank of the low-rank matrices.")
    alpha: float = Field(gt=0, description="Scale of their output: it is multiplied by alpha/rank.")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout on the input of the low-rank matrices."
    )
    target_modules: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of the linear layers to adapt; all but the output layer by default.",
    )
    merge: bool = Field(
        default=False,
        description="Whether to publish merged weights of the whole model beside the adapter.",
    )


def add_adapter(model: "PreTrainedModel", settings: LoraSettings, seed: int) -> "PreTrainedModel":
    """Return the model with an adapter that has no effect yet; only the adapter is trained.

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
            raise TrainingError(f"recipe.lora.target_modules: {one_line(error)}") from error
    return cast("PreTrainedModel", adapted)


def finish(checkpoint: Path, base: Path, *, merge: bool) -> None:
    """Prepare a saved adapter's folder for publishing.

    Args:
        checkpoint: The folder; paths of this machine are removed from its configuration.
        base: The weights that the adapter was trained on.
        merge: Whether to write the merged weights into its subfolder `merged/`.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = checkpoint / ADAPTER_CONFIG
    config = {**json.loads(file.read_text()), "base_model_name_or_path": None}
    file.write_text(json.dumps(config, indent=2))
    if merge:
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", local_files_only=True)
        with_adapter(model, checkpoint).save_pretrained(checkpoint / MERGED)
        AutoTokenizer.from_pretrained(checkpoint, local_files_only=True).save_pretrained(
            checkpoint / MERGED
        )


def with_adapter(model: "PreTrainedModel", adapter: Path) -> "PreTrainedModel":
    """Return the model with an adapter merged into its weights.

    Raises:
        BaseModelError: The adapter does not belong to this model.
    """
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(model, str(adapter), autocast_adapter_dtype=False)
        return cast("PreTrainedModel", adapted.merge_and_unload(safe_merge=True))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BaseModelError(
            f"{adapter} does not load as an adapter of {type(model).__name__}: {one_line(error)}"
        ) from error
