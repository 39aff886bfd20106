"""Known base models: their sizes as transformers builds them, and a recipe that fits each."""

import pytest

from dolly_assets.planning.prices import Prices
from dolly_assets.scaffolding.bases import known_bases
from dolly_assets.scaffolding.choice import choose
from dolly_assets.scaffolding.new_family import NewFamily

ON_ONE_H100_IN_FULL = {
    "Qwen/Qwen3-0.6B",
    "google/gemma-3-270m-it",
    "google/gemma-3-1b-it",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "HuggingFaceTB/SmolLM3-3B",
}


@pytest.mark.slow
@pytest.mark.parametrize("source", known_bases())
def test_sizes_are_those_of_the_model_that_transformers_builds(source) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    base = known_bases()[source]
    values = {key: value for key, value in base.config.items() if key != "model_type"}
    config = AutoConfig.for_model(str(base.config["model_type"]), **values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert values["architectures"] == [type(model).__name__]
    assert base.shape.parameters == pytest.approx(model.num_parameters(), rel=0.005)
    assert base.shape.context
    assert base.shape.context.tokens == base.config["max_position_embeddings"]


@pytest.mark.parametrize("source", known_bases())
def test_each_fits_one_h100_and_all_weights_are_trained_where_they_fit(source) -> None:
    chosen = choose(known_bases()[source], device="H100", gpus=1, prices=Prices.read())
    assert chosen.plan.fits
    assert chosen.plan.cost_usd
    is_adapter = chosen.recipe.lora is not None
    assert is_adapter == (source not in ON_ONE_H100_IN_FULL)
    assert chosen.recipe.precision == "bf16"


def test_more_gpus_share_what_one_cannot_hold() -> None:
    base = known_bases()["Qwen/Qwen3-8B"]
    eight = choose(base, device="H100", gpus=8, prices=Prices.read())
    assert eight.recipe.lora is None
    assert eight.recipe.zero_stage >= 1
    assert eight.recipe.accumulation_steps(8) >= 1


def test_a_gpu_without_bfloat16_trains_in_float16() -> None:
    base = known_bases()["Qwen/Qwen3-0.6B"]
    assert choose(base, device="V100-32GB", gpus=1, prices=Prices.read()).recipe.precision == "fp16"


def test_experts_that_a_token_does_not_pass_take_memory_and_no_time() -> None:
    shape = known_bases()["unsloth/gpt-oss-20b-BF16"].shape
    assert shape.inactive == pytest.approx(shape.parameters * 0.8, rel=0.05)


def test_comments_state_why() -> None:
    text = NewFamily("Qwen/Qwen3-8B", "alpaca", "L4").yaml()
    assert "# All weights do not fit: they take 16 to 18 bytes for each of 8.19 billion" in text
    assert "# By the plan: 1 × L4: " in text
    assert "# Without it, not even one row per GPU fits.\n    gradient_checkpointing: true" in text
    assert all(len(line) <= 100 for line in text.splitlines())
