"""The charts of a whole training: its devices over time, and the speed and steps of each part.

Made with Altair, from the numbers of reports and not from samples.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt  # noqa: TID253 - heavy, so training_report.py imports this module only when it draws

from dolly_assets.core.png import png
from dolly_assets.profiling.analysis.step_figures import STEP_PHASE_NAMES, STEP_PHASES
from dolly_assets.profiling.analysis.training_summary import Part
from dolly_assets.profiling.report.charts import (
    CURVE_COLOURS,
    PHASE_COLOURS,
    WIDTH_PIXELS,
    Charts,
    Row,
    axis_config,
    configured,
)
from dolly_assets.profiling.report.picture import GROUND, INK

FINISHED_COLOUR, INTERRUPTED_COLOUR = "#8a93a3", "#d0504a"


def training_charts(parts: Sequence[Part]) -> Charts:
    """Return the charts of the page; those that no part has numbers for are left out."""
    seconds = sum(part.summary.duration_seconds for part in parts)
    unit, unit_seconds = ("hours", 3600.0) if seconds > 2 * 3600 else ("minutes", 60.0)
    rows = {
        "parts": _part_rows(parts, unit_seconds),
        "curve": _curve_rows(parts, unit_seconds),
        "steps": _step_rows(parts),
    }
    drawn: list[Any] = [_timeline(parts, unit)]
    if rows["steps"]:
        names = [part.name for part in parts if part.summary.steps]
        drawn += [_speed(names), _phases(names)]
    return Charts(specification=configured(alt.vconcat(*drawn, spacing=26)), rows=rows)


def training_picture(charts: Charts, headline: str) -> bytes:
    """Draw the timeline as a small PNG, below the verdict."""
    timeline = {
        **charts.specification,
        "vconcat": charts.specification["vconcat"][:1],
        "datasets": charts.rows,
    }
    config = charts.specification["config"]  # whose colours a page gives
    config = {
        **config,
        "axis": axis_config(INK).to_dict(validate=False),
        "title": {**config["title"], "color": INK},
    }
    title = {
        "text": textwrap.wrap(headline, 110),
        "color": INK,
        "anchor": "start",
        "fontSize": 12,
        "offset": 6,
    }
    return png({**timeline, "config": config, "title": title, "background": GROUND, "padding": 10})


def _part_rows(parts: Sequence[Part], unit_seconds: float) -> list[Row]:
    rows, at = [], 0.0
    for part in parts:
        end = at + part.summary.duration_seconds / unit_seconds
        colour = INTERRUPTED_COLOUR if part.summary.interrupted else FINISHED_COLOUR
        rows.append(
            {
                "part": part.name,
                "colour": colour,
                "t": at,
                "end": end,
                "verdict": part.summary.verdict,
            }
        )
        at = end
    return rows


def _curve_rows(parts: Sequence[Part], unit_seconds: float) -> list[Row]:
    """Return the parts' overviews one after another, separated by rows without values."""
    rows: list[Row] = []
    at = 0.0
    for part in parts:
        summary, overview = part.summary, part.summary.overview
        if overview:
            for t, low, mean, high in zip(
                overview.t, overview.low, overview.mean, overview.high, strict=True
            ):
                moment = at + (t - summary.started_at) / unit_seconds
                rows.append(
                    {"part": part.name, "t": moment, "low": low, "mean": mean, "high": high}
                )
        at += summary.duration_seconds / unit_seconds
        rows.append({"part": part.name, "t": at, "low": None, "mean": None, "high": None})
    return rows


def _step_rows(parts: Sequence[Part]) -> list[Row]:
    return [
        {
            "part": part.name,
            "phase": STEP_PHASE_NAMES[phase],
            "order": order,
            "seconds": steps.shares[phase] * steps.step_seconds,
            "tokens_per_second": steps.tokens_per_second if order == 0 else None,
        }
        for part in parts
        if (steps := part.summary.steps)
        for order, phase in enumerate(STEP_PHASES)
    ]


def _timeline(parts: Sequence[Part], unit: str) -> Any:
    overview = next((part.summary.overview for part in parts if part.summary.overview), None)
    time = alt.X("t:Q", scale=alt.Scale(nice=False), axis=alt.Axis(title=None, grid=False))
    bands = alt.Chart(alt.NamedData("parts")).mark_rect(
        opacity=0.12, stroke=FINISHED_COLOUR, strokeOpacity=0.6
    )
    layers: list[Any] = [
        bands.encode(
            x=time,
            x2="end",
            color=alt.Color("colour:N", scale=None),
            tooltip=["part:N", "verdict:N"],
        ),
        alt.Chart(alt.NamedData("parts"))
        .mark_text(align="left", baseline="top", dx=4, dy=3, fontSize=10, color=FINISHED_COLOUR)
        .encode(x=time, y=alt.value(0), text="part:N"),
    ]
    if overview:
        curve, colour = alt.NamedData("curve"), alt.value(CURVE_COLOURS[0])
        top = alt.Scale(domain=[0, 100]) if overview.unit == "%" else alt.Scale(zero=True)
        axis = alt.Y("mean:Q", scale=top, axis=alt.Axis(title=None, tickCount=4))
        layers += [
            alt.Chart(curve)
            .mark_area(opacity=0.25)
            .encode(x=time, y="low:Q", y2="high", color=colour),
            alt.Chart(curve).mark_line(strokeWidth=1.5).encode(x=time, y=axis, color=colour),
        ]
    what = f"{overview.title}, {overview.unit}" if overview else "No samples"
    title = f"{what}, over {unit} of training"
    return alt.layer(*layers).properties(width=WIDTH_PIXELS, height=130, title=title)


def _speed(names: list[str]) -> alt.Chart:
    bars = alt.Chart(alt.NamedData("steps"), title="Tokens per second").mark_bar(height=12)
    return bars.encode(
        x=alt.X("tokens_per_second:Q", axis=alt.Axis(title=None)),
        y=_by_part(names),
        color=alt.value(CURVE_COLOURS[0]),
        tooltip=["part:N", alt.Tooltip("tokens_per_second:Q", format=",.0f")],
    ).properties(width=WIDTH_PIXELS, height=alt.Step(18))


def _phases(names: list[str]) -> alt.Chart:
    bars = alt.Chart(alt.NamedData("steps"), title="Mean step by phase, in seconds").mark_bar(
        height=12
    )
    domain = [STEP_PHASE_NAMES[phase] for phase in STEP_PHASES]
    return bars.encode(
        x=alt.X("seconds:Q", axis=alt.Axis(title=None)),
        y=_by_part(names),
        color=alt.Color(
            "phase:N", scale=alt.Scale(domain=domain, range=PHASE_COLOURS[: len(domain)]), sort=None
        ),
        order="order:Q",
        tooltip=["part:N", "phase:N", alt.Tooltip("seconds:Q", format=".4f")],
    ).properties(width=WIDTH_PIXELS, height=alt.Step(18))


def _by_part(names: list[str]) -> alt.Y:
    return alt.Y("part:N", sort=names, title=None, axis=alt.Axis(grid=False))
