"""The report over a whole training: one page over the reports of its epochs, and a small picture.

It knows the numbers of those reports, not their samples: a training of many days is summarized as
quickly as a short one.
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.core.text import date_and_time, percent
from dolly_assets.profiling.analysis.step_figures import STEP_PHASE_NAMES, STEP_PHASES
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE
from dolly_assets.profiling.analysis.training_summary import (
    Part,
    TrainingSummary,
    compare_trainings,
    summarize_training,
    training_figures,
)
from dolly_assets.profiling.analysis.units import UNMEASURED, dollars, duration, number, share, size
from dolly_assets.profiling.report import REPORT_FILE, tables
from dolly_assets.profiling.report.page import fill
from dolly_assets.profiling.report.report import PICTURE_FILE

if TYPE_CHECKING:
    from dolly_assets.profiling.report.charts import Charts

CHARTS_SECTION = """<section><div id="charts"></div><p class="note">The time axis leaves out pauses
between the parts. Lines are means; shades run from the lowest to the highest sample of each point.
</p></section>"""


def build_training_report(
    title: str,
    parts: Sequence[Part],
    out: Path,
    *,
    previous: TrainingSummary | None = None,
    cache_dir: Path | None = None,
) -> TrainingSummary:
    """Write report.html, picture.png and summary.json of a training; return its numbers.

    Args:
        title: Heading of the report.
        parts: The reports of its epochs and of interrupted attempts, in order of time; at least
            one.
        out: The folder to write into; created if missing.
        previous: The previous training, to compare with.
        cache_dir: Where this machine keeps what is expensive to build and the same for every
            report.
    """
    from dolly_assets.profiling.report.training_charts import training_charts, training_picture

    out.mkdir(parents=True, exist_ok=True)
    summary = summarize_training(title, parts)
    charts = training_charts(parts)
    _write_page(out / REPORT_FILE, summary, parts, charts, previous, cache_dir)
    (out / PICTURE_FILE).write_bytes(training_picture(charts, summary.verdict))
    (out / SUMMARY_FILE).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return summary


def _write_page(
    path: Path,
    summary: TrainingSummary,
    parts: Sequence[Part],
    charts: "Charts",
    previous: TrainingSummary | None,
    cache_dir: Path | None,
) -> None:
    newest = parts[-1].summary
    fill(
        path,
        title=summary.title,
        state=f"Interrupted: {newest.interrupted}." if newest.interrupted else "",
        verdict=summary.verdict,
        busy=summary.busy,
        facts=_facts(summary, parts),
        sections=[
            tables.findings_by_part([(part.name, part.summary) for part in parts]),
            tables.tiles_of(training_figures(summary)),
            CHARTS_SECTION,
            _parts_table(parts),
            _steps_table(parts),
            tables.tokens_table(
                summary.labelled_tokens, summary.prompt_tokens, summary.padding_tokens, summary.cost
            ),
            tables.health_table(summary.health),
            _comparison(previous, summary),
        ],
        charts=charts,
        cache_dir=cache_dir,
    )


def _facts(summary: TrainingSummary, parts: Sequence[Part]) -> list[str]:
    start, end = date_and_time(summary.started_at), date_and_time(summary.ended_at)
    pauses = summary.ended_at - summary.started_at - summary.duration_seconds
    facts = [
        f"{start} to {end} UTC"
        + (f", with pauses of {duration(pauses)} between its parts" if pauses > 1 else "")
    ]
    for names in dict.fromkeys(tuple(part.summary.device_names) for part in parts):
        facts.append(
            " + ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or "no GPU"
        )
    return facts


def _parts_table(parts: Sequence[Part]) -> str:
    heads = [
        "",
        "time",
        "steps",
        "tokens/s",
        "MFU",
        "peak GPU memory",
        "peak process memory",
        "stalled by saving",
        "effective",
        "cost",
    ]
    rows = []
    for part in parts:
        summary, steps = part.summary, part.summary.steps
        name = html.escape(part.name)
        cells = [
            duration(summary.duration_seconds),
            number(steps.steps if steps else None),
            number(steps.tokens_per_second if steps else None),
            share(steps.mfu if steps else None),
            size(summary.peak_gpu_memory_bytes),
            size(summary.peak_process_memory_bytes),
            duration(summary.checkpoints.saving_seconds),
            share(summary.effective_ratio),
            dollars(summary.cost.usd),
        ]
        link = f'<a href="{html.escape(part.link)}">{name}</a>' if part.link else name
        rows.append(
            "<tr>" + "".join(f"<td>{cell}</td>" for cell in (link, *map(_quiet, cells))) + "</tr>"
        )
    head = "".join(f"<th>{each}</th>" for each in heads)
    return tables.section(
        "Epochs", f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _quiet(text: str) -> str:
    return "–" if text == UNMEASURED else html.escape(text)


def _steps_table(parts: Sequence[Part]) -> str:
    rows = [
        [
            part.name,
            duration(steps.step_seconds),
            duration(steps.p95_seconds),
            *(_with_share(steps.shares[phase], steps.step_seconds) for phase in STEP_PHASES),
            _slowest(part),
        ]
        for part in parts
        if (steps := part.summary.steps)
    ]
    heads = [
        "",
        "mean step",
        "p95",
        *(STEP_PHASE_NAMES[phase] for phase in STEP_PHASES),
        "slowest rank",
    ]
    return tables.section("Steps by phase", tables.table(heads, rows)) if rows else ""


def _with_share(of_step: float, step_seconds: float) -> str:
    return f"{duration(of_step * step_seconds)} ({share(of_step)})"


def _slowest(part: Part) -> str:
    """Return the rank with the most work of its own, where there are several."""
    steps = part.summary.steps
    if steps is None or len(steps.ranks) < 2:
        return "–"
    slowest = max(steps.ranks, key=lambda rank: rank.own_seconds)
    others = [rank.own_seconds for rank in steps.ranks if rank.rank != slowest.rank]
    mean = sum(others) / len(others)
    return f"rank {slowest.rank}{f', +{percent(slowest.own_seconds / mean - 1)}' if mean else ''}"


def _comparison(previous: TrainingSummary | None, summary: TrainingSummary) -> str:
    if previous is None:
        return ""
    rows = [
        [line.name, line.before, line.now, line.change]
        for line in compare_trainings(previous, summary)
    ]
    return tables.section(
        "Compared with the previous training", tables.table(["", "before", "now", "change"], rows)
    )
