"""LoRA with the real Trainer and DeepSpeed: only the adapter trains, and it can be loaded."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.errors import BaseModelError, TrainingError
from dolly_assets.generation.model import load
from dolly_assets.training import lora
from dolly_assets.training.base_model import BaseModelConfig, prepare
from dolly_assets.training.checkpoint import layout
from dolly_assets.training.recipe import Recipe
from dolly_assets_tests.training.runs import Outcome, Runs
from dolly_assets_tests.training.test_fine_tune import RECIPE, job, prepared, published

pytestmark = pytest.mark.slow

NEW = "### New"
SHARDED = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
LORA = {"rank": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["query_key_value"]}


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("weights") / "plain", dropout=0.0)


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(
        {**RECIPE.model_dump(), "micro_batch_size": 2, "lora": LORA} | changes
    )


def test_only_the_adapter_trains_and_resumes_in_the_middle_of_an_epoch_to_the_same_weights(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    """With every weight sharded, and rows of a token that the base model did not have."""
    grown = tmp_path / "grown"
    base = BaseModelConfig.model_validate({"source": str(weights), "license": "apache-2.0"})
    prepare(base, special_tokens=[NEW], texts=list, out=grown, log=lambda _: None)
    whole = job(
        grown,
        tmp_path / "whole",
        recipe=recipe(gradient_checkpointing=True, zero_stage=3),
        last_epoch=2,
        special_tokens=(NEW,),
    )
    expected = runs.run(whole)
    saved = layout.split(whole.scratch / "checkpoint-6")
    assert {path.partition("/")[0] for path in saved} == {"adapter", "state"}
    assert _tensor_names(saved["adapter/adapter_model.safetensors"]) == {
        "base_model.model.gpt_neox.layers.0.attention.query_key_value.lora_A.weight",
        "base_model.model.gpt_neox.layers.0.attention.query_key_value.lora_B.weight",
        "base_model.model.gpt_neox.embed_in.token_adapter.trainable_tokens_delta",
        "base_model.model.lm_head.token_adapter.trainable_tokens_delta",
    }

    stopped = runs.run(replace(whole, scratch=tmp_path / "stopped", save_seconds=0), ask_at=4)
    assert stopped.stopped
    rest = replace(
        whole,
        first_epoch=2,
        scratch=tmp_path / "rest",
        resume_from=published(stopped.states[5], tmp_path / "published", ranks=1),
    )
    outcome = runs.run(rest)
    assert outcome.losses == expected.losses[3:]
    assert outcome.weights[2] == expected.weights[2]


def test_merged_weights_are_the_base_model_with_its_adapter(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    """Of an adapter that was trained with every weight sharded."""
    import torch

    trained: Outcome = runs.run(job(weights, tmp_path, recipe=recipe(zero_stage=3)), ranks=2)
    assert trained.epochs == (1,)
    folder = tmp_path / "trainer" / "checkpoint-3"
    lora.finish(folder, weights, merge=True)
    assert str(tmp_path) not in (folder / lora.ADAPTER_CONFIG).read_text()
    tree = layout.split(folder)
    assert not any("README" in path for path in tree)
    base, merged, adapted = (
        load(weights)[0],
        load(tree["weights/config.json"].parent)[0],
        load(weights, adapter=tree["adapter/adapter_config.json"].parent)[0],
    )
    tensors = merged.state_dict()
    moved = {
        name for name, tensor in base.state_dict().items() if not torch.equal(tensor, tensors[name])
    }
    assert moved == {"gpt_neox.layers.0.attention.query_key_value.weight"}
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in adapted.state_dict().items())


@pytest.mark.parametrize("zero_stage", [pytest.param(2, marks=pytest.mark.long), 3])
def test_lora_of_other_kinds_trains_and_resumes_to_the_same_weights_and_is_merged(
    zero_stage: int, runs: Runs, weights: Path, tmp_path: Path
) -> None:
    """Whose frozen weights are sharded at stage 3, and DoRA computes the lengths of their rows."""
    settings = {**LORA, "dora": True, "rslora": True, "dropout": 0.0}
    if zero_stage == 2:
        settings["modules_to_save"] = ["lm_head"]
    asked = recipe(
        lora=settings, zero_stage=zero_stage, deepspeed=SHARDED if zero_stage == 3 else {}
    )
    whole = job(weights, tmp_path / "whole", recipe=asked, last_epoch=2)
    expected = runs.run(whole, ranks=2)
    names = _tensor_names(whole.scratch / "checkpoint-6" / "adapter_model.safetensors")
    assert sum(name.endswith(".lora_magnitude_vector") for name in names) == 1
    assert ("base_model.model.lm_head.weight" in names) == (zero_stage == 2)
    stopped = runs.run(replace(whole, scratch=tmp_path / "stop", save_seconds=0), ranks=2, ask_at=4)
    rest = replace(
        whole,
        first_epoch=2,
        scratch=tmp_path / "rest",
        resume_from=published(stopped.states[5], tmp_path / "published", ranks=2),
    )
    outcome = runs.run(rest, ranks=2)
    assert outcome.losses == expected.losses[3:]
    assert outcome.weights[2] == expected.weights[2]
    alone = runs.run(job(weights, tmp_path / "alone", recipe=recipe(lora=settings, zero_stage=0)))
    assert alone.losses == pytest.approx(expected.losses[:3], rel=1e-5)
    if zero_stage == 3:
        lora.finish(whole.scratch / "checkpoint-6", weights, merge=True)
        return
    with pytest.raises(BaseModelError, match=r"has no lm_head\.weight"):  # its files say embed_out
        lora.finish(whole.scratch / "checkpoint-6", weights, merge=True)


def test_layers_that_the_model_has_not_are_refused(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    saved = {**LORA, "modules_to_save": ["score"]}
    with pytest.raises(TrainingError, match=r"modules_to_save: the model has no layer score"):
        runs.run(job(weights, tmp_path, recipe=recipe(lora=saved)))
    with pytest.raises(TrainingError, match=r"recipe.lora.target_modules: .*q_proj"):
        runs.run(job(weights, tmp_path, recipe=recipe(lora={**LORA, "target_modules": ["q_proj"]})))


def _tensor_names(file: Path) -> set[str]:
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return set(header) - {"__metadata__"}
