"""Models generate after LoRA: their answers end, although the base model had no token for that."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dolly_assets.generation.model import load
from dolly_assets.training import lora
from dolly_assets.training.checkpoint import layout
from dolly_assets.training.recipe import Recipe
from dolly_assets_tests.training import small_base
from dolly_assets_tests.training.runs import Runs
from dolly_assets_tests.training.test_fine_tune import job

if TYPE_CHECKING:
    from transformers import PreTrainedModel

pytestmark = pytest.mark.slow

EPOCHS, ROWS = 10, 80
RECIPE = Recipe.model_validate(
    {
        "epochs": EPOCHS,
        "max_length": 64,
        "held_out_examples": 1,
        "global_batch_size": 8,
        "micro_batch_size": 4,
        "learning_rate": 5e-3,
        "precision": "fp32",
        "lora": {"rank": 8, "alpha": 16},
    }
)
LAST = f"checkpoint-{EPOCHS * ROWS // 8}"


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def base(tied: bool, spare_rows: bool) -> Path:
        folder = tmp_path_factory.mktemp("base")
        return small_base.prepared_base(folder, tied=tied, spare_rows=spare_rows)

    return base


def tuned(
    runs: Runs, base: Path, scratch: Path, *, ranks: int, new_tokens: bool = True, **recipe: Any
) -> Path:
    """The folder of the last epoch's checkpoint."""
    settings = {**RECIPE.model_dump(), **recipe}
    settings["lora"]["train_new_tokens"] = new_tokens
    request = job(
        base,
        scratch,
        recipe=Recipe.model_validate(settings),
        train=small_base.examples(base, ROWS),
        last_epoch=EPOCHS,
        special_tokens=small_base.SPECIAL_TOKENS,
    )
    runs.run(request, ranks=ranks)
    return request.scratch / LAST


def answers(model: "PreTrainedModel", base: Path) -> list[list[int]]:
    """Greedy answers to every possible prompt, with the end; at most twice as long as they are."""
    import torch
    from transformers import GenerationConfig

    end = small_base.special_ids(base)[0]
    config = GenerationConfig(
        max_new_tokens=2 * small_base.ANSWER_TOKENS, eos_token_id=end, pad_token_id=end
    )
    prompts = torch.tensor([small_base.prompt(base, start) for start in range(26)])
    generated: Any = model.eval().generate(  # pyright: ignore[reportCallIssue]
        prompts, attention_mask=torch.ones_like(prompts), generation_config=config
    )
    return [ids[prompts.shape[1] :] for ids in generated.tolist()]


def share_that_ends(found: list[list[int]], base: Path) -> float:
    end = small_base.special_ids(base)[0]
    return sum(end in ids for ids in found) / len(found)


def share_that_is_right(found: list[list[int]], base: Path) -> float:
    end = small_base.special_ids(base)[0]
    expected = [[*small_base.answer(start), end] for start in range(26)]
    return sum(
        ids[: len(right)] == right for ids, right in zip(found, expected, strict=True)
    ) / len(found)


@pytest.mark.parametrize(
    ("zero_stage", "ranks", "precision", "tied", "spare_rows"),
    [
        (0, 1, "fp32", True, False),
        pytest.param(1, 2, "fp32", False, True, marks=pytest.mark.long),
        pytest.param(2, 1, "bf16", False, False, marks=pytest.mark.long),
        pytest.param(3, 1, "fp32", True, True, marks=pytest.mark.long),
        (3, 2, "bf16", False, False),
    ],
)
def test_answers_end_whatever_shards_the_model_and_merged_or_not(
    runs: Runs,
    bases: Any,
    tmp_path: Path,
    zero_stage: int,
    ranks: int,
    precision: str,
    tied: bool,
    spare_rows: bool,
) -> None:
    import torch

    base = bases(tied, spare_rows)
    checkpoint = tuned(
        runs, base, tmp_path, ranks=ranks, zero_stage=zero_stage, precision=precision
    )
    lora.finish(checkpoint, base, merge=True)
    tree = layout.split(checkpoint)
    merged, _ = load(tree["weights/config.json"].parent)
    adapted, _ = load(base, adapter=tree["adapter/adapter_config.json"].parent)
    found = answers(merged, base)
    assert share_that_ends(found, base) == 1
    assert share_that_is_right(found, base) > 0.6
    assert answers(adapted, base) == found
    weights = merged.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in adapted.state_dict().items())


def test_without_rows_of_their_own_no_answer_ends(runs: Runs, bases: Any, tmp_path: Path) -> None:
    """The case that training these rows is for."""
    base = bases(True, False)
    checkpoint = tuned(runs, base, tmp_path, ranks=1, new_tokens=False, zero_stage=0)
    model, _ = load(base, adapter=checkpoint)
    assert share_that_ends(answers(model, base), base) == 0
