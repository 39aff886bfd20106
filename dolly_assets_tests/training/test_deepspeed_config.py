"""DeepSpeed's configuration agrees with the recipe, and with the Trainer's own arguments."""

import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.deepspeed.config import deepspeed_config
from dolly_assets.training.recipe import Recipe

RECIPE = Recipe(
    epochs=3,
    max_length=64,
    held_out_examples=10,
    global_batch_size=48,
    micro_batch_size=6,
    learning_rate=1e-5,
    max_grad_norm=0.5,
)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_batch_sizes_multiply_up_as_deepspeed_demands(ranks: int) -> None:
    config = deepspeed_config(RECIPE, ranks)
    assert config["train_batch_size"] == 48
    assert (
        config["train_micro_batch_size_per_gpu"] * config["gradient_accumulation_steps"] * ranks
        == 48
    )
    assert config["gradient_clipping"] == 0.5


def test_ranks_that_cannot_share_the_batch_are_refused() -> None:
    with pytest.raises(TrainingError, match="cannot be shared by 5 ranks"):
        deepspeed_config(RECIPE, 5)


@pytest.mark.parametrize(
    ("precision", "bf16", "fp16"),
    [("fp32", False, False), ("bf16", True, False), ("fp16", False, True)],
)
def test_one_precision_is_on_at_most(precision: str, bf16: bool, fp16: bool) -> None:
    config = deepspeed_config(RECIPE.model_copy(update={"precision": precision}), 1)
    assert (config["bf16"]["enabled"], config["fp16"]["enabled"]) == (bf16, fp16)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_under_zero_3_whole_weights_are_gathered_for_every_save(stage: int) -> None:
    zero = deepspeed_config(RECIPE.model_copy(update={"zero_stage": stage}), 1)["zero_optimization"]
    assert zero["stage"] == stage
    assert zero.get("stage3_gather_16bit_weights_on_model_save", False) is (stage == 3)


def test_the_recipes_own_settings_are_merged_key_by_key() -> None:
    extra = {"zero_optimization": {"overlap_comm": True}, "wall_clock_breakdown": True}
    recipe = Recipe.model_validate({**RECIPE.model_dump(), "deepspeed": extra})
    config = deepspeed_config(recipe, 1)
    assert config["zero_optimization"] == {
        "stage": 3,
        "stage3_gather_16bit_weights_on_model_save": True,
        "overlap_comm": True,
    }
    assert config["wall_clock_breakdown"] is True
    assert config["bf16"] == {"enabled": True}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "fp32"),
        ({"gradient_precision": "bf16"}, None),
        ({"zero_stage": 0}, None),
        ({"precision": "fp16"}, None),
    ],
)
def test_gradients_of_bf16_are_summed_and_exchanged_in_float32(
    changes: dict[str, object], expected: str | None
) -> None:
    config = deepspeed_config(RECIPE.model_copy(update=changes), 1)
    assert config.get("data_types", {}).get("grad_accum_dtype") == expected
    assert config.get("communication_data_type") == expected


@pytest.mark.slow
def test_the_trainers_check_of_configuration_against_arguments_passes() -> None:
    """It compares batch sizes, clipping and precision, and raises where they differ."""
    from transformers import TrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    for precision in ("fp32", "bf16"):
        config = HfTrainerDeepSpeedConfig(
            deepspeed_config(
                RECIPE.model_copy(update={"precision": precision, "max_grad_norm": 1.0}), 1
            )
        )
        arguments = TrainingArguments(
            per_device_train_batch_size=6,
            gradient_accumulation_steps=8,
            max_grad_norm=1.0,
            bf16=precision == "bf16",
            use_cpu=True,
            report_to="none",
        )
        config.trainer_config_process(arguments)
        config.trainer_config_finalize(arguments, model=None, num_training_steps=10)
