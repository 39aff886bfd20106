"""What decides the weights, and how a global batch is shared."""

from typing import Any

import pytest
from pydantic import ValidationError

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.recipe import Recipe

VALUES: dict[str, Any] = {
    "epochs": 3,
    "max_length": 64,
    "held_out_examples": 10,
    "global_batch_size": 48,
    "micro_batch_size": 6,
    "learning_rate": 1e-5,
}
OTHERS: dict[str, Any] = {
    "max_length": 65,
    "packing": False,
    "held_out_examples": 11,
    "global_batch_size": 96,
    "micro_batch_size": 3,
    "learning_rate": 2e-5,
    "scheduler": "linear",
    "warmup_steps": 1,
    "weight_decay": 0.1,
    "adam_beta1": 0.8,
    "adam_beta2": 0.99,
    "adam_epsilon": 1e-7,
    "max_grad_norm": 2.0,
    "precision": "fp16",
    "tf32": True,
    "zero_stage": 2,
    "gradient_precision": "bf16",
    "gradient_checkpointing": True,
    "seed": 43,
    "lora": {"rank": 4, "alpha": 8},
    "deepspeed": {"zero_optimization": {"overlap_comm": True}},
}


LORA = {"rank": 4, "alpha": 8}
NEEDS: dict[str, dict[str, Any]] = {"tf32": {"precision": "fp32"}}


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(VALUES | changes)


def test_every_setting_that_weights_depend_on_has_a_say_in_the_digest() -> None:
    assert set(OTHERS) == set(Recipe.model_fields) - {
        "epochs",
        "guards",
        "early_stopping",
        "loss",
    }
    digests = {
        recipe(**{**NEEDS.get(name, {}), name: value}).digest for name, value in OTHERS.items()
    }
    assert len(digests | {recipe().digest}) == len(OTHERS) + 1


def test_more_epochs_go_on_with_the_same_training_only_while_the_rate_does_not_depend_on_them() -> (
    None
):
    assert recipe(epochs=3).digest == recipe(epochs=9).digest
    for scheduler in ("linear", "cosine"):
        assert (
            recipe(epochs=3, scheduler=scheduler).digest
            != recipe(epochs=9, scheduler=scheduler).digest
        )


def test_equal_recipes_have_equal_digests_however_they_are_written() -> None:
    explicit = Recipe.model_validate(dict(reversed(recipe().model_dump().items())))
    assert explicit.digest == recipe().digest
    assert recipe(learning_rate=0.00001).digest == recipe(learning_rate=1e-5).digest


@pytest.mark.parametrize(("ranks", "steps"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_the_global_batch_is_shared_by_accumulating(ranks: int, steps: int) -> None:
    assert recipe().accumulation_steps(ranks) == steps
    assert recipe().micro_batch_size * ranks * steps == recipe().global_batch_size


@pytest.mark.parametrize("ranks", [3, 5, 16])
def test_ranks_that_cannot_share_it_equally_are_refused_with_all_three_numbers(ranks: int) -> None:
    expected = (
        f"global_batch_size 48 cannot be shared by {ranks} ranks at micro_batch_size 6: "
        f"it must be a multiple of {6 * ranks}"
    )
    with pytest.raises(TrainingError, match=expected):
        recipe().accumulation_steps(ranks)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 100),
        ("max_length", 7),
        ("held_out_examples", 0),
        ("micro_batch_size", 0),
        ("micro_batch_size", 5),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("warmup_steps", -1),
        ("weight_decay", -0.1),
        ("adam_beta1", 1.0),
        ("adam_epsilon", 0.0),
        ("max_grad_norm", -1.0),
        ("scheduler", "cosinus"),
        ("precision", "fp8"),
        ("zero_stage", 4),
        ("seed", -1),
        ("lerning_rate", 1e-5),
    ],
)
def test_values_that_cannot_train_are_refused_at_the_door(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        recipe(**{name: value})


def test_settings_that_0_1_did_not_have_are_left_out_where_they_mean_what_it_did() -> None:
    """So a training of 0.1 that is asked for as it was keeps its name."""
    stored = recipe(lora={"rank": 4, "alpha": 8}).model_dump(mode="json")
    del stored["gradient_precision"], stored["lora"]["train_new_tokens"]
    del stored["lora"]["rslora"], stored["lora"]["dora"], stored["lora"]["modules_to_save"]
    del stored["early_stopping"], stored["loss"], stored["tf32"]
    as_it_was = recipe(
        gradient_precision="bf16", lora={"rank": 4, "alpha": 8, "train_new_tokens": False}
    )
    assert as_it_was.settings() == stored | {"guards": as_it_was.model_dump()["guards"]}
    assert as_it_was.changes_since(stored) == []
    now = recipe(lora={"rank": 4, "alpha": 8})
    assert now.digest != as_it_was.digest
    first, second = now.changes_since(stored)
    assert first == 'recipe.gradient_precision from "bf16" to "fp32"'
    assert second.startswith("recipe.lora from ")
    assert now.changes_since(now.model_dump(mode="json")) == []


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gradients_in_float32_change_nothing_but_bf16(precision: str) -> None:
    assert "gradient_precision" not in recipe(precision=precision).settings()
    assert recipe().settings()["gradient_precision"] == "fp32"
    assert "gradient_precision" not in recipe(zero_stage=0).settings()
    with pytest.raises(ValidationError, match=f"gradients follow from precision {precision}"):
        recipe(precision=precision, gradient_precision="fp32")
    with pytest.raises(ValidationError, match="set zero_stage 1"):
        recipe(zero_stage=0, gradient_precision="fp32")


@pytest.mark.parametrize("kind", ["rslora", "dora"])
def test_a_kind_of_lora_is_part_of_the_digest_where_it_is_on(kind: str) -> None:
    plain, other = recipe(lora=LORA), recipe(lora={**LORA, kind: True})
    assert plain.digest == recipe(lora={**LORA, kind: False}).digest != other.digest
    assert kind not in plain.settings()["lora"]
    assert other.settings()["lora"][kind] is True


def test_layers_trained_whole_beside_lora_need_weights_that_are_not_sharded() -> None:
    saved = {**LORA, "modules_to_save": ["lm_head"]}
    assert recipe(lora=saved, zero_stage=2).digest != recipe(lora=LORA, zero_stage=2).digest
    with pytest.raises(ValidationError, match=r"modules_to_save are copied.*set zero_stage 2"):
        recipe(lora=saved, zero_stage=3)


def test_tf32_is_part_of_the_digest_where_it_is_on_and_needs_float32() -> None:
    off, on = recipe(precision="fp32"), recipe(precision="fp32", tf32=True)
    assert off.digest != on.digest
    assert "tf32" not in off.settings()
    assert on.changes_since(off.settings()) == ["recipe.tf32 from false to true"]
    with pytest.raises(ValidationError, match=r"TF32 multiplies float32.*precision bf16"):
        recipe(tf32=True)


def test_how_the_loss_is_computed_gives_a_training_no_other_name() -> None:
    assert recipe(loss="full").digest == recipe().digest
    assert recipe(loss="full").settings() == recipe().settings()
    assert recipe(loss="full").changes_since(recipe().model_dump(mode="json")) == []
    with pytest.raises(ValidationError, match="'chunked' or 'full'"):
        recipe(loss="some")


def test_how_layers_are_recomputed_is_part_of_the_digest_only_where_it_is_said() -> None:
    digests = [
        recipe(gradient_checkpointing=value).digest
        for value in (False, True, {"every": 2}, {"every": 2, "offload": True})
    ]
    assert len(set(digests)) == 4
    assert recipe(gradient_checkpointing=True).settings()["gradient_checkpointing"] is True


def test_deepspeeds_own_activation_checkpointing_is_refused_with_what_works() -> None:
    with pytest.raises(ValidationError, match=r"has no effect.*recipe.gradient_checkpointing"):
        recipe(deepspeed={"activation_checkpointing": {"partition_activations": True}})
