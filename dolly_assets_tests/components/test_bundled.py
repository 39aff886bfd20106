"""The bundled families carry the hyper-parameters that Databricks published with Dolly 1 and 2.

Source: https://github.com/databrickslabs/dolly (README, config/, training/consts.py).
"""

from pathlib import Path

import dagster as dg
import pytest

from dolly_assets.components.code_location import build, component_trees, families
from dolly_assets.core.environment import Environment
from dolly_assets.family import ModelFamily

ASSETS = {
    "base_model",
    "tokenized_dataset",
    "training_plan",
    "model_checkpoint",
    "gpu_profile",
    "training_profile",
    "sample_responses",
    "evaluation",
    "epoch_comparison",
    "champion_model",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    home: Path = tmp_path_factory.mktemp("home")
    return Environment(home=home, store_url=str(home / "store"), more_defs=None)


@pytest.fixture(scope="module")
def bundled(environment: Environment) -> dict[str, ModelFamily]:
    return families(component_trees(environment))


def test_three_families_are_bundled_each_with_all_assets(
    bundled: dict[str, ModelFamily], environment: Environment
) -> None:
    assert set(bundled) == {"demo", "gpt_j_6b", "pythia_12b"}
    keys = build(environment).resolve_asset_graph().get_all_asset_keys()
    assert keys == {dg.AssetKey("raw_dataset")} | {
        dg.AssetKey([name, asset]) for name in bundled for asset in ASSETS
    }


def test_dolly_1_is_gpt_j_on_alpaca_as_published(bundled: dict[str, ModelFamily]) -> None:
    family = bundled["gpt_j_6b"]
    recipe = family.recipe
    assert family.base_model.source == "EleutherAI/gpt-j-6B"
    assert family.dataset == "alpaca"
    assert (recipe.learning_rate, recipe.scheduler, recipe.warmup_steps) == (1e-5, "constant", 0)
    assert (recipe.micro_batch_size, recipe.global_batch_size, family.compute.gpus) == (
        1,
        8,
        8,
    )  # rows: some 64 examples
    assert (recipe.held_out_examples, recipe.max_length, recipe.weight_decay) == (1000, 1024, 0.0)


def test_dolly_2_is_pythia_12b_on_databricks_dolly_15k_as_published(
    bundled: dict[str, ModelFamily],
) -> None:
    family = bundled["pythia_12b"]
    recipe = family.recipe
    assert family.base_model.source == "EleutherAI/pythia-12b"
    assert family.dataset == "databricks_dolly_15k"
    assert (recipe.learning_rate, recipe.scheduler, recipe.warmup_steps) == (5e-6, "constant", 50)
    assert (recipe.micro_batch_size, recipe.global_batch_size, family.compute.gpus) == (
        1,
        8,
        8,
    )  # rows: some 48 examples
    assert (recipe.held_out_examples, recipe.max_length, recipe.weight_decay) == (200, 2048, 0.0)


@pytest.mark.parametrize("name", ["gpt_j_6b", "pythia_12b"])
def test_both_train_in_bf16_under_zero_3_with_seed_42(
    bundled: dict[str, ModelFamily], name: str
) -> None:
    recipe = bundled[name].recipe
    assert (recipe.precision, recipe.zero_stage, recipe.gradient_checkpointing, recipe.seed) == (
        "bf16",
        3,
        True,
        42,
    )
    assert recipe.accumulation_steps(ranks=8) == 1
    zero = recipe.deepspeed.zero_optimization
    assert zero.overlap_comm is True
    assert zero.contiguous_gradients is True
    assert zero.sub_group_size == 1_000_000_000
    assert zero.offload_optimizer is None


@pytest.mark.parametrize("name", ["gpt_j_6b", "pythia_12b"])
def test_prompts_have_dollys_sections(bundled: dict[str, ModelFamily], name: str) -> None:
    style = bundled[name].prompt_style
    assert style.prompt("Name a colour.", "The sky.") + style.completion("Blue.") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName a colour.\n\nInput:\nThe sky.\n\n### "
        "Response:\nBlue.\n\n### End"
    )


def test_the_demo_needs_no_device_and_no_network(bundled: dict[str, ModelFamily]) -> None:
    demo = bundled["demo"]
    assert demo.compute.gpus == 0
    assert demo.base_model.untrained
    assert demo.recipe.accumulation_steps(demo.compute.cpu_ranks) >= 1
