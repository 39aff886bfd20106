"""When a training ends early: the rule, and that the real loop obeys it without leaving a trace."""

from dataclasses import replace
from pathlib import Path

import pytest

from dolly_assets.training.loop.early_stopping import EarlyStopping
from dolly_assets.training.recipe import Recipe
from dolly_assets_tests.training.runs import Runs
from dolly_assets_tests.training.test_fine_tune import (  # noqa: F401 fixtures
    examples,
    job,
    published,
    runs,
    weights_with_dropout,
)


@pytest.mark.parametrize(
    ("losses", "rule", "stopped"),
    [
        ({}, {"patience": 1}, None),
        ({1: 1.0, 2: 0.9, 3: 0.8}, {"patience": 1}, None),
        ({1: 1.0, 2: 1.0}, {"patience": 1}, (2, 1)),  # a tie is no improvement
        ({1: 1.0, 2: 1.1, 3: 0.9, 4: 0.95}, {"patience": 2}, None),
        ({1: 1.0, 2: 1.1, 3: 0.9, 4: 0.95, 5: 0.91}, {"patience": 2}, (5, 3)),
        ({1: 1.0, 2: 0.96, 3: 0.93}, {"patience": 2, "min_improvement": 0.05}, None),
        ({1: 1.0, 2: 0.97, 3: 0.96}, {"patience": 2, "min_improvement": 0.05}, (3, 1)),
        ({3: 1.0, 4: 1.1}, {"patience": 1}, (4, 3)),  # the first epochs were not measured
        ({1: 1.0, 2: float("nan"), 3: float("nan")}, {"patience": 2}, (3, 1)),
    ],
)
def test_a_training_ends_after_epochs_without_an_improvement(
    losses: dict[int, float], rule: dict[str, float], stopped: tuple[int, int] | None
) -> None:
    verdict = EarlyStopping.model_validate(rule).verdict(losses)
    assert ((verdict.epoch, verdict.best_epoch) if verdict else None) == stopped


def test_it_is_part_of_no_digest() -> None:
    recipe = Recipe(
        epochs=9,
        max_length=64,
        held_out_examples=1,
        global_batch_size=1,
        micro_batch_size=1,
        learning_rate=1e-3,
        scheduler="cosine",
    )
    other = recipe.model_copy(update={"early_stopping": EarlyStopping(patience=2)})
    assert other.digest == recipe.digest
    assert "early_stopping" not in recipe.settings()


@pytest.mark.slow
def test_a_range_ends_early_with_the_weights_that_it_has_without_the_rule_and_so_it_does_resumed(
    runs: Runs,  # noqa: F811
    weights_with_dropout: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    plain = job(weights_with_dropout, tmp_path / "plain", last_epoch=2)
    plain = replace(plain, recipe=plain.recipe.model_copy(update={"epochs": 5}))
    rule = EarlyStopping(patience=1, min_improvement=100)
    recipe = plain.recipe.model_copy(update={"early_stopping": rule})
    early = replace(
        plain, recipe=recipe, last_epoch=5, held_out=examples(5), scratch=tmp_path / "early"
    )
    expected, found = runs.run(plain), runs.run(early)
    assert found.epochs == (1, 2)
    assert found.weights == expected.weights
    [line] = [line for line in found.lines if "stopped early" in line]
    assert line.startswith("stopped early after epoch 2: the held-out loss has not improved for 1")
    assert "the best epoch is 1" in line
    [first] = [line for line in found.lines if line.startswith("epoch 1: held-out loss")]
    state = published(early.scratch / "checkpoint-3", tmp_path / "published", ranks=1)
    resumed = replace(
        early,
        first_epoch=2,
        resume_from=state,
        held_out_losses={1: float(first.split()[-1])},
        scratch=tmp_path / "resumed",
    )
    again = runs.run(resumed)
    assert (again.epochs, again.weights[2]) == ((2,), expected.weights[2])
