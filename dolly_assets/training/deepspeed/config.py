"""DeepSpeed's configuration for a recipe; the rest is left to DeepSpeed's defaults.

Its keys are those of https://www.deepspeed.ai/docs/config-json/. There is no "optimizer" section:
the Trainer's AdamW is used, which needs no compiler on the machine.
"""

from typing import Any

from dolly_assets.core.mappings import merged
from dolly_assets.training.recipe import Recipe


def deepspeed_config(recipe: Recipe, ranks: int, *, load_universal: bool = False) -> dict[str, Any]:
    """Return the configuration for a recipe.

    Args:
        recipe: How to train.
        ranks: The number of ranks.
        load_universal: Whether the state to resume from is a universal checkpoint.

    Raises:
        TrainingError: The ranks cannot share the global batch equally.
    """
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
        # Otherwise the weights of an epoch could only be assembled later, from the shards of all
        # ranks.
        config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True
    if recipe.has_float32_gradients:
        # Otherwise DeepSpeed adds the gradients of micro-batches and ranks in bf16: the more of
        # them there are, the more is rounded away.
        config["data_types"] = {"grad_accum_dtype": "fp32"}
        config["communication_data_type"] = "fp32"
    if load_universal:
        config["checkpoint"] = {"load_universal": True}
    return merged(config, recipe.deepspeed.to_dict())
