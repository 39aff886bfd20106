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


def test_each_category_is_scored_as_if_it_were_all() -> None:
    """By exact match where answers can be checked, and by the loss where none is given."""
    table = scored(["yes", "no", "yes", None], [2.0, 4.0, 6.0, 8.0])
    table = table.set_column(1, "category", [["a", "a", "b", "b"]])
    found = examples.by_category(table)
    assert {name: score.value for name, score in found.items()} == {"a": 0.5, "b": 1.0}
    assert found["a"] == examples.exact_match(table.slice(0, 2))
    opened = scored([None] * 4, [2.0, 4.0, 6.0, 8.0])
    opened = opened.set_column(1, "category", [["a", "a", "b", "b"]])
    assert examples.by_category(opened)["b"] == examples.held_out_loss(opened.slice(2, 2))
