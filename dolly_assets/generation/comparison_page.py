"""The page on which epochs are compared: one file that loads nothing, for light and dark screens.

Every text of prompts, answers and names is escaped: it is shown as it is, whatever it contains.
"""

import html
import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from string import Template

from dolly_assets.core.text import count
from dolly_assets.generation.comparison import (
    HEADER,
    EpochRow,
    best_epoch,
    categories_table,
    judge_table,
    measured_columns,
    prompts_of,
    suites_table,
    trend_of,
)
from dolly_assets.generation.line_chart import Point, line_chart
from dolly_assets.generation.prompt import Prompt

_TEMPLATE = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
_SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_WORD = re.compile(r"\S+|\s+")
NO_ANSWER = "(no answer)"


def page(title: str, rows: Sequence[EpochRow]) -> str:
    """Return the page: a verdict, charts with intervals, the numbers, and the answers.

    Args:
        title: What is compared.
        rows: The epochs, ascending.
    """
    trend, prompts = trend_of(rows), prompts_of(rows)
    return _TEMPLATE.substitute(
        title=html.escape(title),
        verdict=html.escape(_verdict(rows)),
        trend=html.escape(trend.sentence if trend else ""),
        charts="".join(_charts(rows)),
        numbers=_numbers(rows),
        categories=_section(_by_category(rows), *categories_table(rows)),
        suites=_section("Suites", *suites_table(rows)),
        judge=_section("Judge", *judge_table(rows)),
        answers=_answers(rows, prompts),
        count=count(len(prompts), "prompt"),
        script=_SCRIPT,
    )


def _verdict(rows: Sequence[EpochRow]) -> str:
    best = best_epoch(rows)
    if best is None:
        return "No epoch was scored"
    name = f"Epoch {best.epoch}" if best.epoch else "The base model"
    score = (best.exact_match, best.exact_match_interval, "exact match", ".3f")
    if best.exact_match is None:
        score = (best.held_out_loss, best.held_out_loss_interval, "held-out loss", ".4f")
    value, interval, measure, form = score
    bounds = f" (95 % from {interval[0]:{form}} to {interval[1]:{form}})" if interval else ""
    return f"{name} has the best {measure}: {value:{form}}{bounds}"


def _by_category(rows: Sequence[EpochRow]) -> str:
    is_exact = any(row.exact_match is not None for row in rows)
    return f"{'Exact match' if is_exact else 'Held-out loss'} by category"


def _charts(rows: Sequence[EpochRow]) -> list[str]:
    measures = (
        ("Held-out loss", ".3f", lambda row: (row.held_out_loss, row.held_out_loss_interval)),
        ("Exact match", ".2f", lambda row: (row.exact_match, row.exact_match_interval)),
        (
            "Training records reproduced verbatim, above held-out ones",
            "+.2f",
            lambda row: (row.memorization, row.memorization_interval),
        ),
        ("Words per answer", ".1f", lambda row: (row.words, None)),
    )
    charts = []
    for title, form, measured in measures:
        points = [
            Point(row.epoch, value, *(interval or (value, value)))
            for row in rows
            for value, interval in [measured(row)]
            if value is not None
        ]
        charts += [line_chart(title, points, form)] if points else []
    return charts


def _numbers(rows: Sequence[EpochRow]) -> str:
    best, columns = best_epoch(rows), measured_columns(rows)
    lines = []
    for row in rows:
        cells, values = row.cells(), row.values()
        line = "".join(_number(cells[column], values[column]) for column in columns)
        lines.append(f"<tr{' class=best' if row is best else ''}>{line}</tr>")
    head = _head([HEADER[column] for column in columns])
    return f"{head}<tbody>{''.join(lines)}</tbody>"


def _section(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a section with a table of numbers; empty without lines."""
    if not lines:
        return ""
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    return (
        f'<section><h2>{title}</h2><div class="wide"><table class="numbers"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _number(cell: str, value: float | None) -> str:
    number, _, interval = cell.partition(" (")
    shown = html.escape(cell)
    if interval and not number.isdecimal():
        shown = f'{html.escape(number)} <span class="interval">({html.escape(interval)}</span>'
    return f'<td data-value="{"" if value is None else value}">{shown}</td>'


def _answers(rows: Sequence[EpochRow], prompts: Sequence[Prompt]) -> str:
    asked = [row for row in rows if row.responses]
    lines = []
    for prompt in prompts:
        cells, before = [_prompt(prompt)], None
        for row in asked:
            answer = row.responses.get(prompt)
            cells.append(_answer(row.name, answer, before))
            before = answer
        lines.append(f"<tr>{''.join(cells)}</tr>")
    header = ("prompt", *(f"epoch {row.name}" for row in asked))
    return f"{_head(header)}<tbody>{''.join(lines)}</tbody>"


def _head(names: Sequence[str]) -> str:
    cells = "".join(f"<th><button>{html.escape(name)}</button></th>" for name in names)
    return f"<thead><tr>{cells}</tr></thead>"


def _prompt(prompt: Prompt) -> str:
    is_exchange = prompt.instruction and not prompt.system
    title = prompt.instruction or prompt.messages[-1].content
    below = prompt.context if is_exchange else prompt.text
    context = f'<div class="text context">{html.escape(below)}</div>' if below else ""
    return (
        f'<td data-value="{html.escape(title)}"><div class="text">{html.escape(title)}</div>'
        f"{context}</td>"
    )


def _answer(epoch: str, answer: str | None, before: str | None) -> str:
    if answer is None:
        return f'<td data-epoch="epoch {html.escape(epoch)}" data-value="">–</td>'
    words = len(answer.split())
    text = marked(answer.strip(), None if before is None else before.strip())
    return (
        f'<td data-epoch="epoch {html.escape(epoch)}" data-value="{words}">'
        f'<div class="text">{text or NO_ANSWER}</div>'
        f'<div class="words">{count(words, "word")}</div></td>'
    )


def marked(answer: str, before: str | None) -> str:
    """Return an answer as HTML, with the words marked that the answer before does not have there.

    Args:
        answer: The answer.
        before: The answer of the epoch before; None without one.
    """
    if before is None:
        return html.escape(answer)
    new, old = _WORD.findall(answer), _WORD.findall(before)
    parts = []
    for kind, _, _, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        text = html.escape("".join(new[start:end]))
        parts.append(f"<mark>{text}</mark>" if kind != "equal" and text.strip() else text)
    return "".join(parts)
