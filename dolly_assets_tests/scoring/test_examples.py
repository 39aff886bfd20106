"""A model's scores follow from those of its examples."""

import math

import pytest

from dolly_assets.registry.attributes import EvaluationAttributes
from dolly_assets.scoring import examples
from dolly_assets_tests.scoring.tables import scored


def test_a_loss_by_category_counts_the_tokens_of_that_category() -> None:
    table = scored(["yes"] * 4, [1.0, 2.0, 3.0, 4.0])
    assert examples.held_out_loss_by_category(table) == {"a": 2.0, "b": 3.0}
    assert examples.held_out_loss(table).value == 2.5


def test_a_model_that_diverged_has_no_loss_and_can_be_published() -> None:
    """Only the category in which it did lacks one."""
    table = scored(["yes"] * 4, [1.0, math.nan, 3.0, math.inf])
    by_category = examples.held_out_loss_by_category(table)
    assert by_category == {"a": 2.0, "b": None}
    loss = examples.held_out_loss(table)
    assert (loss.value, loss.interval) == (None, None)
    attributes = EvaluationAttributes.model_validate({"held_out_loss_by_category": by_category})
    assert attributes.as_json()["held_out_loss_by_category"] == by_category


def test_answers_that_were_not_given_are_neither_right_nor_wrong() -> None:
    table = scored(["yes", "no", None, None])
    assert examples.exact_match(table).value == 0.5
    assert examples.exact_match(table).examples == 2
    assert examples.token_f1(table).value == pytest.approx(0.5)
    assert examples.answer_figures(table)["answers"] == 2
