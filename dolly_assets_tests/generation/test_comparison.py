"""The table across epochs, the best of them, the trend, and a page that shows any text as text."""

from typing import Any

import pytest

from dolly_assets.generation.comparison import (
    EpochRow,
    Measure,
    WinRate,
    best_epoch,
    categories_markdown,
    judge_markdown,
    picture,
    responses_markdown,
    scores_markdown,
    suites_markdown,
    trend_of,
)
from dolly_assets.generation.comparison_page import marked, page
from dolly_assets.generation.prompt import Prompt

HOSTILE = '<script>alert(1)</script> & "quoted" | {braces} `ticks`'


def answers(*pairs: tuple[Prompt, str]) -> dict[Prompt, str]:
    return dict(pairs)


def row(epoch: int, **values: Any) -> EpochRow:
    nothing = dict.fromkeys(
        (
            "training_loss",
            "held_out_loss",
            "perplexity",
            "exact_match",
            "tokens_per_second",
            "training_seconds",
        )
    )
    return EpochRow(**{"epoch": epoch, "responses": {}, **nothing, **values})


def test_the_table_has_a_line_for_each_epoch_and_a_dash_for_what_was_not_measured() -> None:
    base = row(0, held_out_loss=5.0, perplexity=148.41)
    trained = row(
        1,
        training_loss=1.23456,
        held_out_loss=1.0,
        perplexity=2.718,
        exact_match=0.25,
        memorization=0.125,
        tokens_per_second=12345.6,
        training_seconds=3.21,
    )
    header, _, first, second = scores_markdown([base, trained]).splitlines()
    assert "words per answer" not in header  # which neither has
    assert first == "| 0 (base model) | – | 5.0000 | 148.41 | – | – | – | – |"
    assert second == "| 1 | 1.2346 | 1.0000 | 2.72 | 0.250 | +0.125 | 12,346 | 3.2 |"


def test_scores_by_category_stand_side_by_side_over_the_epochs() -> None:
    base = row(0, exact_match=0.0, categories={"sums": Measure(0.0, (0.0, 0.1))})
    trained = row(
        1, exact_match=0.5, categories={"sums": Measure(0.5, (0.4, 0.6)), "<b>": Measure(0.25)}
    )
    table = categories_markdown([base, trained])
    assert table
    assert table.splitlines()[0] == "| category | epoch 0 (base model) | epoch 1 |"
    assert table.splitlines()[-1] == "| sums | 0.000 (0.000 to 0.100) | 0.500 (0.400 to 0.600) |"
    html = page("tiny", [base, trained])
    assert "<h2>Exact match by category</h2>" in html
    assert "<td>&lt;b&gt;</td><td>–</td><td>0.250</td>" in html
    assert "by category</h2>" not in page("tiny", [base])


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([], None),
        ([row(0)], None),
        ([row(0, held_out_loss=3.0), row(1, held_out_loss=2.0), row(2, held_out_loss=2.5)], 1),
        ([row(1, held_out_loss=2.0), row(2, held_out_loss=2.0)], 1),
        (
            [
                row(1, held_out_loss=1.0, exact_match=0.5),
                row(2, held_out_loss=2.0, exact_match=0.6),
            ],
            2,
        ),
        ([row(3, exact_match=0.5), row(2, exact_match=0.5)], 2),
        ([row(1, held_out_loss=1.0), row(2, held_out_loss=2.0, exact_match=0.0)], 2),
    ],
)
def test_the_best_epoch_has_the_highest_exact_match_else_the_lowest_loss_and_of_equals_is_the_first(
    rows: list[EpochRow], best: int | None
) -> None:
    found = best_epoch(rows)
    assert (found.epoch if found else None) == best


def test_the_page_shows_any_text_as_text_and_loads_nothing() -> None:
    prompt = Prompt(instruction=HOSTILE, context=HOSTILE)
    html = page(
        HOSTILE,
        [
            row(0, held_out_loss=2.0, responses=answers((prompt, HOSTILE))),
            row(1, held_out_loss=1.0, held_out_loss_interval=(0.9, 1.1)),
        ],
    )
    assert "<script>alert(1)" not in html
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quoted&quot; | {braces} `ticks`"
    assert html.count(escaped) == 6  # title twice, instruction twice, context, response
    assert html.count("<script>") == 1
    assert not [word for word in ("http:", "https:", "src=", "@import", "url(") if word in html]
    assert '<td data-value="1.0">1.0000 <span class="interval">(0.9000 to 1.1000)</span>' in html
    assert "Epoch 1 has the best held-out loss: 1.0000 (95 % from 0.9000 to 1.1000)" in html
    assert "epoch 1: 1.000 (0.900 to 1.100)" in html  # what the chart shows of a point


def test_a_page_of_epochs_that_were_not_scored_says_so() -> None:
    assert "No epoch was scored" in page("tiny", [row(0)])
    assert "No epoch was scored" in page("tiny", [])


def test_words_that_the_answer_before_lacks_are_marked() -> None:
    assert marked("a b & c", None) == "a b &amp; c"
    assert marked("a b & c", "a x c") == "a <mark>b &amp;</mark> c"
    assert marked("a", "a b") == "a"


def epochs_with_answers_of(*words: tuple[int, ...]) -> list[EpochRow]:
    """Rows with answers of these lengths in words: one tuple by epoch, one number by prompt."""
    prompts = [Prompt(instruction=f"Question {number}?") for number in range(len(words[0]))]
    return [
        row(epoch, responses={prompt: "word " * n for prompt, n in zip(prompts, of, strict=True)})
        for epoch, of in enumerate(words)
    ]


@pytest.mark.parametrize(
    ("words", "trend", "p_value"),
    [
        # L = 70 over five prompts and three epochs: one of the 6^5 equal rankings.
        (((9,) * 5, (1, 2, 3, 4, 5), (4, 5, 6, 7, 8), (7, 8, 9, 9, 9)), "grow longer", 2 / 6**5),
        (((9,) * 5, (7, 8, 9, 9, 9), (4, 5, 6, 7, 8), (1, 2, 3, 4, 5)), "grow shorter", 2 / 6**5),
        (((9,) * 3, (1, 5, 3), (3, 1, 5), (5, 3, 1)), "do not change their length", 1.0),
    ],
)
def test_a_trend_in_the_length_of_answers_is_tested(
    words: tuple[tuple[int, ...], ...], trend: str, p_value: float
) -> None:
    found = trend_of(epochs_with_answers_of(*words))
    assert found
    assert found.sentence.startswith(f"Answers {trend}")
    assert found.p_value == pytest.approx(p_value)


def test_two_epochs_or_one_prompt_show_no_trend() -> None:
    assert trend_of(epochs_with_answers_of((9, 9), (1, 2), (3, 4))) is None
    assert trend_of(epochs_with_answers_of((9,), (1,), (2,), (3,))) is None
    assert trend_of([row(1), row(2)]) is None


def test_answers_are_a_table_of_prompts_by_epochs() -> None:
    first, second = Prompt(instruction="One?"), Prompt(instruction="Two?", context="Given.")
    text = responses_markdown(
        [
            row(0, responses=answers((first, "nothing\nmuch"), (second, "  "))),
            row(1, responses=answers((first, "something"))),
            row(2, held_out_loss=1.0, responses=answers((first, "best"))),
            row(3, responses=answers((first, "left out"))),
            row(4, responses=answers((first, "![last](https://example.com)"))),
        ]
    )
    assert text.splitlines() == [
        "| prompt | epoch 0 (base model) | epoch 1 | epoch 2 | epoch 4 |",
        "| --- | --- | --- | --- | --- |",
        "| One? | nothing much | something | best | `![last](https://example.com)` |",
        "| Two? Given. | – | – | – | – |",
    ]


def test_the_picture_is_a_png_even_of_nothing() -> None:
    for rows in ([], [row(0, held_out_loss=2.0, exact_match=0.1), row(1, held_out_loss=1.0)]):
        assert picture(rows).startswith(b"\x89PNG")


def test_win_rates_are_a_table_of_their_own() -> None:
    judged = row(1, win_rate=WinRate(0.75, (0.6, 0.9), (6, 2, 2), 0.8))
    unclear = row(2, win_rate=WinRate(None, None, (0, 0, 0), None))
    table = judge_markdown([row(0), judged, unclear])
    assert table
    assert table.splitlines()[2:] == [
        "| 1 | 0.750 (0.600 to 0.900) | 6 | 2 | 2 | 0.800 |",
        "| 2 | – | 0 | 0 | 0 | – |",
    ]
    assert judged.as_json()["win_rate"]["interval"] == (0.6, 0.9)
    text = page("tiny on animals", [row(0), judged])
    assert "<h2>Judge</h2>" in text
    assert "<td>0.750 (0.600 to 0.900)</td>" in text
    assert "<h2>Judge</h2>" not in page("tiny on animals", [row(0)])
    assert judge_markdown([row(0)]) is None


def test_suites_are_a_table_of_their_own_with_the_change_from_the_base_model() -> None:
    base = row(0, suites={"general": Measure(0.5, (0.4, 0.6))})
    trained = row(1, suites={"general": Measure(0.4, (0.3, 0.5), -0.1, (-0.15, -0.05))})
    table = suites_markdown([base, trained, row(2)])
    assert table
    assert table.splitlines()[2:] == [
        "| 0 (base model) | 0.500 (0.400 to 0.600) | – |",
        "| 1 | 0.400 (0.300 to 0.500) | -0.100 (-0.150 to -0.050) |",
        "| 2 | – | – |",
    ]
    assert trained.as_json()["suites"]["general"]["change"] == -0.1
    assert "<h2>Suites</h2>" in page("tiny on animals", [base, trained])
    assert "<h2>Suites</h2>" not in page("tiny on animals", [row(0)])
    assert suites_markdown([row(0)]) is None
