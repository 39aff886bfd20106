"""The scores that follow from results by record, and how those of two models differ."""

import math
from typing import Any

import pytest

from dolly_assets.suites.results import changes, measured, rows_of


def answered(scores: list[float], **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": str(at), "line": at, "scorer": "f1", "prompt": "?", "score": score, **more}
        for at, score in enumerate(scores)
    ]


def read(losses: list[float]) -> list[dict[str, Any]]:
    return [
        {"id": f"t{at}", "line": 90 + at, "scorer": "text", "prompt": "text", "loss": loss}
        | {"tokens": 10, "bytes": 40}
        for at, loss in enumerate(losses)
    ]


def test_answers_have_a_mean_and_texts_have_bits_per_byte() -> None:
    found = measured(rows_of([*answered([1, 0, 1, 1]), *read([20.0, 40.0])]))
    assert found.score.value == 0.75
    assert found.score.interval == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson's
    assert found.bits_per_byte.value == pytest.approx(60 / math.log(2) / 80)
    assert found.perplexity == pytest.approx(math.exp(3))


def test_shares_of_a_score_have_the_interval_of_a_mean() -> None:
    score = measured(rows_of(answered([0.2, 0.4] * 50))).score
    assert score.value == pytest.approx(0.3)
    assert score.interval
    assert 0.27 < score.interval[0] < 0.3 < score.interval[1] < 0.33


def test_what_was_not_measured_is_none() -> None:
    found = measured(rows_of(answered([1])))
    assert (found.bits_per_byte.value, found.perplexity) == (None, None)
    assert measured(rows_of(read([math.nan]))).bits_per_byte.value is None
    assert measured(rows_of(read([20.0]))).score.value is None


def test_the_change_between_two_models_is_paired_by_record() -> None:
    """Every record loses 0.1: nothing is left to chance, whatever their spread."""
    old = rows_of([*answered([0.2, 0.9] * 20), *read([20.0, 90.0])])
    new = rows_of([*answered([0.1, 0.8] * 20), *read([22.0, 92.0])])
    change = changes(new, old)
    assert change["score"].value == pytest.approx(-0.1)
    assert change["score"].interval == pytest.approx((-0.1, -0.1))
    assert change["bits_per_byte"].value == pytest.approx(4 / math.log(2) / 80)
    assert changes(new, old.slice(1)) == {}
    assert changes(rows_of(answered([1], expected=["a"])), rows_of(answered([1]))) == {}
