"""DeepSpeed's configuration for a recipe.

What the recipe does not say, DeepSpeed's own defaults decide.

Keys: https://www.deepspeed.ai/docs/config-json/. No "optimizer" section: the Trainer's AdamW is
used, which needs no compiler on the machine.
"""

from collections.abc import Mapping
from typing import Any

from dolly_assets.training.recipe import Recipe


def deepspeed_config(recipe: Recipe, ranks: int, *, load_universal: bool = False) -> dict[str, Any]:
    """The configuration for that many ranks; raises TrainingError if they cannot share the global batch equally."""
    config: dict[str, Any] = {
        "train_batch_size": recipe.global_batch_size,
        "train_micro_batch_size_per_gpu": recipe.micro_batch_size,
        "gradient_accumulation_steps": recipe.accumulation_steps(ranks),
        "gradient_clipping": recipe.max_grad_norm,
        "zero_optimization": {"stage": recipe.zero_stage},
        "bf16": {"enabled": recipe.precision == "bf16"},
        "fp16": {"enabled": recipe.precision == "fp16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1_000_000_000,
    }
    if recipe.zero_stage == 3:
        # Without it the weights of an epoch could only be put together later, from all ranks'
        # shards.
        config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True
    if load_universal:
        config["checkpoint"] = {"load_universal": True}
    return _laid_over(config, recipe.deepspeed.to_dict())


def _laid_over(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _laid_over(merged[key], value) if both else value
    return merged
