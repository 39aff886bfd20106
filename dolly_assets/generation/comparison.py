"""Epochs side by side: as Markdown, as a picture, and whether answers grow longer.

The page is the business of `comparison_page.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from dolly_assets.core.markdown import markdown_table
from dolly_assets.core.png import png
from dolly_assets.core.text import with_interval
from dolly_assets.generation.prompt import Prompt
from dolly_assets.scoring.trends import LengthTrend, length_trend

HEADER = (
    "epoch",
    "training loss",
    "held-out loss",
    "perplexity",
    "exact match",
    "memorized",
    "words per answer",
    "tokens/s",
    "training seconds",
)
MOST_EPOCHS_OF_ANSWERS = 4
"""Columns of the table of answers in Markdown; the page has all."""


class Measure(NamedTuple):
    """A score on a suite; None where there is none.

    Attributes:
        value: The score.
        interval: Its 95 % interval.
        change: How much more it is than the base model's, paired by record.
        change_interval: The 95 % interval of the change.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    change: float | None = None
    change_interval: tuple[float, float] | None = None

    @property
    def cells(self) -> list[str]:
        """The score and the change as text."""
        return [
            with_interval(self.value, self.interval, ".3f"),
            with_interval(self.change, self.change_interval, "+.3f"),
        ]


class WinRate(NamedTuple):
    """How often a judge prefers an epoch's answers to the base model's.

    Attributes:
        value: Share of the pairs that it won; a tie is half a win. None if the judge failed.
        interval: The 95 % interval.
        results: Pairs won, lost and tied.
        order_agreement: Share of the pairs that the judge judged alike in both orders.
    """

    value: float | None
    interval: tuple[float, float] | None
    results: tuple[int, int, int]
    order_agreement: float | None

    @property
    def cells(self) -> list[str]:
        """The numbers as text."""
        return [
            with_interval(self.value, self.interval, ".3f"),
            *map(str, self.results),
            with_interval(self.order_agreement, None, ".3f"),
        ]


@dataclass(frozen=True)
class EpochRow:
    """The results of an epoch; None where a value was not measured.

    Losses are in nats per labelled token; intervals are of 95 %; suites have a score by name.
    `categories` have the exact match of each, or the held-out loss if answers are open.
    `memorization` is how much more of its training records than of held-out ones the model
    reproduces verbatim, as a share.
    """

    epoch: int
    training_loss: float | None
    held_out_loss: float | None
    perplexity: float | None
    exact_match: float | None
    tokens_per_second: float | None
    training_seconds: float | None
    responses: Mapping[Prompt, str]
    held_out_loss_interval: tuple[float, float] | None = None
    exact_match_interval: tuple[float, float] | None = None
    memorization: float | None = None
    memorization_interval: tuple[float, float] | None = None
    categories: Mapping[str, Measure] = field(default_factory=dict)
    suites: Mapping[str, Measure] = field(default_factory=dict)
    win_rate: WinRate | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the row ready for JSON, with the responses as a list."""
        responses = [
            {**prompt.model_dump(), "response": response}
            for prompt, response in self.responses.items()
        ]
        suites, categories = (
            {name: measure._asdict() for name, measure in measures.items()}
            for measures in (self.suites, self.categories)
        )
        win_rate = self.win_rate._asdict() if self.win_rate else None
        return {
            **vars(self),
            "responses": responses,
            "suites": suites,
            "categories": categories,
            "win_rate": win_rate,
        }

    @property
    def name(self) -> str:
        """The name of the epoch in tables."""
        return "0 (base model)" if self.epoch == 0 else str(self.epoch)

    @property
    def words(self) -> float | None:
        """Words per answer, on average; None without answers."""
        counts = [len(response.split()) for response in self.responses.values()]
        return sum(counts) / len(counts) if counts else None

    def values(self) -> list[float | None]:
        """Return the row's numbers, in the order of HEADER."""
        return [self.epoch, *(value for value, _, _ in self._measured())]

    def cells(self) -> list[str]:
        """Return the row's cells, in the order of HEADER."""
        return [self.name, *(with_interval(*each) for each in self._measured())]

    def _measured(self) -> list[tuple[float | None, tuple[float, float] | None, str]]:
        """Return each number with its interval and its form."""
        return [
            (self.training_loss, None, ".4f"),
            (self.held_out_loss, self.held_out_loss_interval, ".4f"),
            (self.perplexity, None, ",.2f"),
            (self.exact_match, self.exact_match_interval, ".3f"),
            (self.memorization, self.memorization_interval, "+.3f"),
            (self.words, None, ".1f"),
            (self.tokens_per_second, None, ",.0f"),
            (self.training_seconds, None, ",.1f"),
        ]


def best_epoch(rows: Sequence[EpochRow]) -> EpochRow | None:
    """Return the epoch with the highest exact match, else the one with the lowest held-out loss."""
    matched = [(-row.exact_match, row.epoch, row) for row in rows if row.exact_match is not None]
    scored = [(row.held_out_loss, row.epoch, row) for row in rows if row.held_out_loss is not None]
    return min(matched or scored, default=(0, 0, None), key=lambda item: item[:2])[2]


def measured_columns(rows: Sequence[EpochRow]) -> list[int]:
    """Return the columns of HEADER in which any epoch has a number."""
    return [
        column
        for column, values in enumerate(zip(*(row.values() for row in rows), strict=True))
        if any(value is not None for value in values)
    ]


def scores_markdown(rows: Sequence[EpochRow]) -> str:
    """Return the table of epochs as Markdown, without what was measured of none."""
    columns = measured_columns(rows)
    cells = [row.cells() for row in rows]
    return markdown_table(
        [HEADER[column] for column in columns],
        [[line[column] for column in columns] for line in cells],
    )


def categories_table(rows: Sequence[EpochRow]) -> tuple[list[str], list[list[str]]]:
    """Return header and lines of the scores by category; no lines with one category or none."""
    names = sorted({name for row in rows for name in row.categories})
    header = ["category", *(f"epoch {row.name}" for row in rows)]
    absent = Measure(None)
    lines = [[name, *(row.categories.get(name, absent).cells[0] for row in rows)] for name in names]
    return header, lines if len(names) > 1 else []


def categories_markdown(rows: Sequence[EpochRow]) -> str | None:
    """Return the table of scores by category as Markdown; None with one category or none."""
    header, lines = categories_table(rows)
    return markdown_table(header, lines) if lines else None


def suites_table(rows: Sequence[EpochRow]) -> tuple[list[str], list[list[str]]]:
    """Return header and lines of the scores on suites; no lines without suites."""
    names = list(dict.fromkeys(name for row in rows for name in row.suites))
    header = ["epoch", *(title for name in names for title in (name, "change from the base"))]
    absent = Measure(None)
    lines = [
        [row.name, *(cell for name in names for cell in row.suites.get(name, absent).cells)]
        for row in rows
    ]
    return header, lines if names else []


def suites_markdown(rows: Sequence[EpochRow]) -> str | None:
    """Return the table of scores on suites as Markdown; None without suites."""
    header, lines = suites_table(rows)
    return markdown_table(header, lines) if lines else None


def judge_table(rows: Sequence[EpochRow]) -> tuple[list[str], list[list[str]]]:
    """Return header and lines of the win rates over the base model; no lines without a judge."""
    header = ["epoch", "win rate over the base", "won", "lost", "tied", "same in both orders"]
    return header, [[row.name, *row.win_rate.cells] for row in rows if row.win_rate]


def judge_markdown(rows: Sequence[EpochRow]) -> str | None:
    """Return the table of win rates as Markdown; None without a judge."""
    header, lines = judge_table(rows)
    return markdown_table(header, lines) if lines else None


def responses_markdown(rows: Sequence[EpochRow]) -> str:
    """Return a table of prompts and answers as Markdown.

    It has the base model, the first, the best and the last epoch; long answers are cut off.
    """
    asked = [row for row in rows if row.responses]
    trained, best = [row for row in asked if row.epoch], best_epoch(asked)
    wanted = [*asked[:1], *trained[:1], *trained[-1:], *([best] if best else [])]
    shown = [row for row in asked if row in wanted][:MOST_EPOCHS_OF_ANSWERS]
    return markdown_table(
        ("prompt", *(f"epoch {row.name}" for row in shown)),
        [
            (prompt.text, *(row.responses.get(prompt, "–").strip() or "–" for row in shown))
            for prompt in prompts_of(shown)
        ],
    )


def prompts_of(rows: Sequence[EpochRow]) -> list[Prompt]:
    """Return the prompts that any epoch answered."""
    return list(dict.fromkeys(prompt for row in rows for prompt in row.responses))


def trend_of(rows: Sequence[EpochRow]) -> LengthTrend | None:
    """Return whether answers grow longer, over the prompts that all trained epochs answered."""
    trained = [row for row in rows if row.epoch and row.responses]
    prompts = [
        prompt for prompt in prompts_of(trained) if all(prompt in row.responses for row in trained)
    ]
    words = [[len(row.responses[prompt].split()) for row in trained] for prompt in prompts]
    return length_trend([row.epoch for row in trained], np.array(words)) if words else None


def picture(rows: Sequence[EpochRow]) -> bytes:
    """Return a chart of held-out loss and exact match over the epochs, as PNG."""
    return png(_chart(rows).to_dict(), scale=2)


def _chart(rows: Sequence[EpochRow]) -> Any:
    import altair

    points = [
        {"epoch": row.epoch, "measure": measure, "value": value, "low": low, "high": high}
        for row in rows
        for measure, value, interval in (
            ("held-out loss", row.held_out_loss, row.held_out_loss_interval),
            ("exact match", row.exact_match, row.exact_match_interval),
        )
        if value is not None
        for low, high in [interval or (value, value)]
    ]
    base = altair.Chart(altair.Data(values=points)).encode(
        x=altair.X("epoch:O", title="epoch", axis=altair.Axis(labelAngle=0)),
        color=altair.Color("measure:N", legend=None),
    )
    lines = base.mark_line(point=True).encode(
        y=altair.Y("value:Q", title=None),
        tooltip=[
            "epoch:O",
            "measure:N",
            *(altair.Tooltip(f"{name}:Q", format=".4f") for name in ("value", "low", "high")),
        ],
    )
    intervals = base.mark_rule(opacity=0.5).encode(y="low:Q", y2="high:Q")
    return (
        altair.layer(intervals, lines)
        .properties(width=260, height=160)
        .facet(column=altair.Column("measure:N", title=None, sort=["held-out loss", "exact match"]))
        .resolve_scale(y="independent")
    )
