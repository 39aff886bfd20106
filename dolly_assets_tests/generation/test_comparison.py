"""The table across epochs, the best of them, and a page that shows any text as text."""

from typing import Any

import pytest

from dolly_assets.generation.comparison import (
    EpochRow,
    Measure,
    best_epoch,
    page,
    picture,
    responses_markdown,
    scores_markdown,
    suites_markdown,
)
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
        tokens_per_second=12345.6,
        training_seconds=3.21,
    )
    _, _, first, second = scores_markdown([base, trained]).splitlines()
    assert first == "| 0 (base model) | – | 5.0000 | 148.41 | – | – | – |"
    assert second == "| 1 | 1.2346 | 1.0000 | 2.72 | 0.250 | 12,346 | 3.2 |"


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


@pytest.mark.slow
def test_the_page_shows_any_text_as_text_and_opens_offline() -> None:
    prompt = Prompt(instruction=HOSTILE, context=HOSTILE)
    html = page(
        HOSTILE,
        [
            row(0, held_out_loss=2.0, responses=answers((prompt, HOSTILE))),
            row(1, held_out_loss=1.0),
        ],
    )
    assert "<script>alert(1)" not in html
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quoted&quot; | {braces} `ticks`"
    assert html.count(escaped) == 5  # title twice, instruction, context, response
    assert 'src="http' not in html
    assert "<td>1.0000</td>" in html


def test_responses_stand_under_their_prompt_epoch_by_epoch() -> None:
    first, second = Prompt(instruction="One?"), Prompt(instruction="Two?", context="Given.")
    text = responses_markdown(
        [
            row(0, responses=answers((first, "nothing\nmuch"), (second, "  "))),
            row(1, responses=answers((first, "something"))),
        ]
    )
    assert (
        text
        == """\
**Prompt**

```
One?
```

epoch 0 (base model)

```
nothing
much
```

epoch 1

```
something
```

**Prompt**

```
Two?

Given.
```

epoch 0 (base model)

```
(no answer)
```"""
    )


def test_the_picture_is_a_png_even_of_nothing() -> None:
    for rows in ([], [row(0, held_out_loss=2.0, exact_match=0.1), row(1, held_out_loss=1.0)]):
        assert picture(rows).startswith(b"\x89PNG")


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
