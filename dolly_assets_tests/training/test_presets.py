"""DeepSpeed settings and presets: DeepSpeed's own are accepted, those of the recipe are not."""

from typing import Any

import pytest
from pydantic import ValidationError

from dolly_assets.training import presets
from dolly_assets.training.deepspeed import settings as deepspeed_settings
from dolly_assets.training.deepspeed.config import deepspeed_config
from dolly_assets.training.recipe import Recipe
from dolly_assets_tests.training.test_recipe import VALUES


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(VALUES | changes)


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_is_the_same_recipe_as_what_it_stands_for(name: str) -> None:
    by_name = recipe(deepspeed=name)
    written = recipe(**presets.load(name).decided, deepspeed=presets.load(name).deepspeed.to_dict())
    assert by_name == written
    assert by_name.digest == written.digest
    assert Recipe.model_validate_json(by_name.model_dump_json()) == by_name


def test_presets_decide_stage_and_precision_where_they_are_for_one() -> None:
    decided = {name: presets.load(name).decided for name in presets.names()}
    assert [decided[f"zero_{stage}"] for stage in range(4)] == [
        {"zero_stage": stage} for stage in range(4)
    ]
    assert decided["dolly_2_v100"] == {"zero_stage": 3, "precision": "fp16"}
    assert decided["dolly_1"] == decided["dolly_2_a100"] == {"zero_stage": 3, "precision": "bf16"}
    assert decided["offload_optimizer"] == {}
    assert (
        len({recipe(deepspeed=name).digest for name in presets.names()} - {recipe().digest})
        >= len(decided) - 2
    )


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        (
            {"zero_stage": 1, "deepspeed": "zero_2"},
            ("deepspeed",),
            "the preset zero_2 is for zero_stage 2, and the recipe",
        ),
        (
            {"precision": "bf16", "deepspeed": "dolly_2_v100"},
            ("deepspeed",),
            "is for precision fp16, and the recipe",
        ),
        (
            {"zero_stage": 0, "deepspeed": "offload_optimizer"},
            ("deepspeed",),
            "zero_stage of at least 1, found 0",
        ),
        (
            {
                "zero_stage": 2,
                "deepspeed": {"zero_optimization": {"offload_param": {"device": "cpu"}}},
            },
            ("deepspeed",),
            "zero_stage of at least 3, found 2",
        ),
        (
            {"deepspeed": {"gradient_clipping": 1.0}},
            ("deepspeed", "gradient_clipping"),
            "set recipe.max_grad_norm",
        ),
        (
            {"deepspeed": {"bf16": {"enabled": True}}},
            ("deepspeed", "bf16", "enabled"),
            "set recipe.precision",
        ),
        (
            {"deepspeed": {"zero_optimization": {"stage": 3}}},
            ("deepspeed", "zero_optimization", "stage"),
            "set recipe.zero_stage",
        ),
        (
            {"deepspeed": {"fp16": {"hysteresis": "two"}}},
            ("deepspeed", "fp16", "hysteresis"),
            "valid integer",
        ),
        (
            {"deepspeed": {"zero_optimisation": {}}},
            ("deepspeed", "zero_optimisation"),
            "not permitted",
        ),
    ],
)
def test_what_contradicts_the_recipe_or_is_unknown_is_refused_by_its_key(
    changes: dict[str, Any], where: tuple[str, ...], what: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        recipe(**changes)
    [error] = refused.value.errors()
    assert error["loc"] == where
    assert what in error["msg"]


@pytest.mark.slow
def test_names_and_defaults_are_those_of_deepspeeds_own_models() -> None:
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import (
        DeepSpeedZeroOffloadOptimizerConfig,
        DeepSpeedZeroOffloadParamConfig,
    )

    for ours, theirs in (
        (deepspeed_settings.ZeroOptimization, DeepSpeedZeroConfig),
        (deepspeed_settings.OffloadOptimizer, DeepSpeedZeroOffloadOptimizerConfig),
        (deepspeed_settings.OffloadParam, DeepSpeedZeroOffloadParamConfig),
        (deepspeed_settings.Bf16, DeepSpeedBF16Config),
        (deepspeed_settings.Fp16, DeepSpeedFP16Config),
    ):
        known = {field.alias or name: field for name, field in theirs.model_fields.items()}
        for name, field in ours.model_fields.items():
            if field.annotation is not type(None):  # what the recipe decides
                assert field.default == known[name].default, name


@pytest.mark.parametrize("name", presets.names())
def test_deepspeed_accepts_every_preset(name: str) -> None:
    from deepspeed.runtime.config import get_bfloat16_config, get_float16_config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    config = deepspeed_config(recipe(deepspeed=name), ranks=1)
    zero = {
        key: 1 if value == "auto" else value for key, value in config["zero_optimization"].items()
    }
    assert DeepSpeedZeroConfig.model_validate(zero).stage == recipe(deepspeed=name).zero_stage
    assert get_float16_config(config).enabled + get_bfloat16_config(config).enabled == 1
