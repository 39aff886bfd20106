"""Epochs side by side: as Markdown, as a picture, and as a page that opens offline."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dolly_assets.core.markdown import code_block, markdown_table
from dolly_assets.core.png import png
from dolly_assets.generation.prompt import Prompt

HEADER = (
    "epoch",
    "training loss",
    "held-out loss",
    "perplexity",
    "exact match",
    "tokens/s",
    "training seconds",
)


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
            _cell(self.value, ".3f", self.interval),
            _cell(self.change, "+.3f", self.change_interval),
        ]


@dataclass(frozen=True)
class EpochRow:
    """The results of an epoch; None where a value was not measured.

    Losses are in nats per labelled token; intervals are of 95 %; suites have a score by name.
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
    suites: Mapping[str, Measure] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the row ready for JSON, with the responses as a list."""
        responses = [
            {**prompt.model_dump(), "response": response}
            for prompt, response in self.responses.items()
        ]
        suites = {name: measure._asdict() for name, measure in self.suites.items()}
        return {**vars(self), "responses": responses, "suites": suites}

    @property
    def name(self) -> str:
        """The name of the epoch in tables."""
        return "0 (base model)" if self.epoch == 0 else str(self.epoch)

    def cells(self) -> list[str]:
        """Return the row's cells, in the order of HEADER."""
        values = [
            (self.training_loss, ".4f", None),
            (self.held_out_loss, ".4f", self.held_out_loss_interval),
            (self.perplexity, ",.2f", None),
            (self.exact_match, ".3f", self.exact_match_interval),
            (self.tokens_per_second, ",.0f", None),
            (self.training_seconds, ",.1f", None),
        ]
        return [self.name, *(_cell(*each) for each in values)]


def _cell(value: float | None, form: str, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "–"
    bounds = f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval else ""
    return f"{value:{form}}{bounds}"


def best_epoch(rows: Sequence[EpochRow]) -> EpochRow | None:
    """Return the epoch with the highest exact match, else the one with the lowest held-out loss."""
    matched = [(-row.exact_match, row.epoch, row) for row in rows if row.exact_match is not None]
    scored = [(row.held_out_loss, row.epoch, row) for row in rows if row.held_out_loss is not None]
    return min(matched or scored, default=(0, 0, None), key=lambda item: item[:2])[2]


def scores_markdown(rows: Sequence[EpochRow]) -> str:
    """Return the table of epochs as Markdown."""
    return markdown_table(HEADER, [row.cells() for row in rows])


def suites_markdown(rows: Sequence[EpochRow]) -> str | None:
    """Return the table of scores on suites as Markdown; None without suites."""
    header, lines = _suites_table(rows)
    return markdown_table(header, lines) if lines else None


def responses_markdown(rows: Sequence[EpochRow]) -> str:
    """Return every prompt with its responses, epoch by epoch, as Markdown."""
    parts = []
    for prompt in _prompts(rows):
        parts.append(f"**Prompt**\n\n{code_block(prompt.text)}")
        parts += [
            f"epoch {row.name}\n\n{code_block(row.responses[prompt].strip() or '(no answer)')}"
            for row in rows
            if prompt in row.responses
        ]
    return "\n\n".join(parts)


def picture(rows: Sequence[EpochRow]) -> bytes:
    """Return a chart of held-out loss and exact match over the epochs, as PNG."""
    return png(_chart(rows).to_dict(), scale=2)


def page(title: str, rows: Sequence[EpochRow]) -> str:
    """Return a self-contained HTML page with a chart, the table and sample responses."""
    chart = (
        _chart(rows)
        .properties(background="white")
        .to_html(inline=True, fullhtml=False, output_div="chart")
    )
    header, lines = _suites_table(rows)
    return _PAGE.format(
        title=html.escape(title),
        chart=chart,
        scores=_table_html(HEADER, [row.cells() for row in rows]),
        suites=f"<h2>Suites</h2>\n{_table_html(header, lines)}" if lines else "",
        responses=_responses_html(rows),
    )


def _suites_table(rows: Sequence[EpochRow]) -> tuple[list[str], list[list[str]]]:
    """Return header and lines of the scores on suites; no lines without suites."""
    names = list(dict.fromkeys(name for row in rows for name in row.suites))
    header = ["epoch", *(title for name in names for title in (name, "change from the base"))]
    absent = Measure(None)
    lines = [
        [row.name, *(cell for name in names for cell in row.suites.get(name, absent).cells)]
        for row in rows
    ]
    return header, lines if names else []


def _table_html(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _responses_html(rows: Sequence[EpochRow]) -> str:
    parts = []
    for prompt in _prompts(rows):
        is_exchange = prompt.instruction and not prompt.system
        title = prompt.instruction or prompt.messages[-1].content
        below = prompt.context if is_exchange else prompt.text
        context = f"<p class=context>{html.escape(below)}</p>" if below else ""
        answers = "".join(
            f"<tr><th>{html.escape(row.name)}</th><td><pre>{html.escape(row.responses[prompt].strip())}</pre></td></tr>"
            for row in rows
            if prompt in row.responses
        )
        parts.append(
            f"<h3>{html.escape(title)}</h3>{context}<table class=answers>{answers}</table>"
        )
    return "".join(parts)


def _prompts(rows: Sequence[EpochRow]) -> list[Prompt]:
    return list(dict.fromkeys(prompt for row in rows for prompt in row.responses))


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


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }}
body {{ padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ border-bottom: 1px solid #8886; padding: .3rem .8rem; }}
th, td {{ text-align: right; vertical-align: top; }}
.answers td, .answers th {{ text-align: left; }}
pre {{ margin: 0; white-space: pre-wrap; font: inherit; }}
.context {{ opacity: .75; white-space: pre-wrap; }}
.chart {{ background: white; display: inline-block; padding: .5rem; border-radius: .4rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
<div class="chart">{chart}</div>
{scores}
{suites}
<h2>Sample responses</h2>
{responses}
</body>
</html>
"""
