"""recipe.max_length against the context of a model: refused for learned positions, else noted."""

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dolly_assets.core.errors import TrainingError
from dolly_assets.family import FamilyAttributes
from dolly_assets.training.context import Context
from dolly_assets_tests.home import TINY_FAMILY


@pytest.mark.parametrize(
    ("config", "tokens", "is_fixed"),
    [
        ({"model_type": "gpt2", "n_positions": 64}, 64, True),
        ({"model_type": "gpt2", "max_position_embeddings": 64}, 64, True),
        ({"model_type": "gpt2"}, 1024, True),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512, True),
        ({"model_type": "llama", "max_position_embeddings": 2048}, 2048, False),
        (
            {
                "model_type": "gemma3",
                "text_config": {"model_type": "gemma3_text", "max_position_embeddings": 4096},
            },
            4096,
            False,
        ),
    ],
)
def test_the_context_is_read_off_the_configuration(
    config: dict[str, Any], tokens: int, is_fixed: bool
) -> None:
    assert Context.of(config) == Context(tokens, is_fixed)


def test_computed_positions_without_a_bound_have_no_context() -> None:
    assert Context.of({"model_type": "mamba"}) is None


def test_more_than_the_learned_positions_are_refused() -> None:
    context = Context(64, is_fixed=True)
    assert context.check(64, "base") is None
    with pytest.raises(
        TrainingError,
        match=r"recipe\.max_length 160 is more than the 64 positions of base: lower it to 64, or "
        "name a base model with a longer context",
    ):
        context.check(160, "base")


def test_more_than_the_rotary_positions_is_noted() -> None:
    remark = Context(2048, is_fixed=False).check(4096, "base")
    assert remark
    assert remark.startswith("recipe.max_length 4,096 is beyond the 2,048 tokens that base was")


def family(config: dict[str, Any], max_length: int) -> FamilyAttributes:
    values = yaml.safe_load(TINY_FAMILY)["attributes"]
    values["base_model"]["untrained"]["config"] = config
    values["recipe"]["max_length"] = max_length
    return FamilyAttributes.model_validate(values)


def test_yaml_with_an_untrained_model_is_checked() -> None:
    gpt2 = {"model_type": "gpt2", "n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2}
    assert family(gpt2, 64).recipe.max_length == 64
    with pytest.raises(ValidationError, match="max_length 160 is more than the 64 positions of"):
        family(gpt2, 160)
    assert family({"model_type": "llama", "max_position_embeddings": 64}, 160)
