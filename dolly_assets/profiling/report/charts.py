"""The linked charts of a page: panels, phases and steps as one Vega-Lite specification.

Made with Altair, and knowing nothing of what is in the panels. Numbers travel next to the
specification, column by column, and become rows in the browser: a row of JSON for each point would
be ten times the bytes. Colours are middle tones that read on white and on black.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt  # noqa: TID253 - heavy, so report.py imports this module only when it draws
import numpy as np

from dolly_assets.profiling.analysis.panels import Panel, Stack, digest
from dolly_assets.profiling.series.phases import Phase
from dolly_assets.profiling.series.samples import Series, Thinned, thin

CURVE_COLOURS = (
    "#3b82c4",
    "#e0782a",
    "#2fa06a",
    "#c9518f",
    "#8a6fd1",
    "#b8902a",
    "#2ba3b5",
    "#d0504a",
)
PHASE_COLOURS = (
    "#5b8def",
    "#e8a33d",
    "#59b38a",
    "#b07cc6",
    "#d9756c",
    "#5fb0c9",
    "#a3a14e",
    "#9a8478",
)
WIDTH_PIXELS = 900
POINTS = 1200  # of a curve: a zoom by three still has one per two pixels
STRIP_POINTS = 600
MOST_CURVES = (
    8  # more than these hide each other: they become their mean, their lowest and their highest
)
MOST_BANDS = 400  # more spans than this are a texture, not bands: the longest are drawn
LABEL_PIXELS = 100

Row = dict[str, Any]


@dataclass
class Charts:
    """What a page draws.

    Attributes:
        specification: Vega-Lite; its data sets are named and empty.
        curves: Data set's name -> columns of curves that share their times (see `_columns`).
        rows: Data set's name -> rows as they are.
    """

    specification: Row = field(default_factory=dict)
    curves: dict[str, Row] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)


def page_charts(
    panels: Sequence[Panel],
    phases: Sequence[Phase],
    time_seconds: Series,
    span: tuple[float, float],
    step_panel: tuple[Panel, Series] | None,
    step_stack: Stack | None,
) -> Charts:
    """Return an overview to drag over, the phases as lanes, the steps, and every panel below.

    Args:
        panels: At least one.
        phases: Clipped to the span.
        time_seconds: UTC epoch seconds of the panels' samples, shape (samples,).
        span: Start and end in UTC epoch seconds.
        step_panel: How long steps took by rank, in seconds, and when they ended.
        step_stack: Where steps' time went.
    """
    charts = Charts(rows={"phases": band_rows(phases)})
    brush = alt.selection_interval(
        name="zoom", encodings=["x"], value={"x": [*map(milliseconds, span)]}
    )
    time = time_axis(span, brush)
    charts.curves["overview"] = _columns({"all": digest(panels[0], time_seconds, POINTS)})
    drawn: list[Any] = [_overview(panels[0], time_axis(span), brush)]
    if charts.rows["phases"]:
        drawn.append(_lanes(charts.rows["phases"], time))
    if step_panel:
        drawn.append(_panel_chart(charts, "steps", step_panel[0], step_panel[1], time))
    if step_stack:
        drawn.append(_stack_chart(charts, step_stack, time))
    for number, panel in enumerate(panels):
        drawn.append(_panel_chart(charts, f"panel_{number}", panel, time_seconds, time))
    linked = alt.vconcat(*drawn, spacing=26).resolve_scale(
        color="independent", opacity="independent"
    )
    charts.specification = configured(linked)
    return charts


def configured(drawn: alt.VConcatChart) -> Row:
    """Return stacked charts as the specification of a page, in the style of all pages."""
    return drawn.configure(
        background="transparent",
        font="system-ui, sans-serif",
        view=alt.ViewConfig(stroke=None),
        axis=axis_config(),
        axisY=alt.AxisConfig(
            minExtent=LABEL_PIXELS, maxExtent=LABEL_PIXELS
        ),  # so that all panels start at one x
        title=alt.TitleConfig(anchor="start", frame="group", fontSize=13, fontWeight=600, offset=8),
        legend=alt.LegendConfig(
            symbolOpacity=1, direction="horizontal", title=None, orient="top", offset=4, padding=0
        ),
    ).to_dict(validate=False)


def _overview(panel: Panel, time: alt.X, brush: alt.Parameter) -> Any:
    shade, line = digest_layers("overview", panel, time, ticks=2)
    title = f"{panel.title}: drag here to zoom every chart, double-click to see it all"
    layers = alt.layer(bands(time), shade, line.add_params(brush))
    return layers.properties(width=WIDTH_PIXELS, height=44, title=title)


def _lanes(rows: list[Row], time: alt.X) -> alt.Chart:
    names = list(dict.fromkeys(row["phase"] for row in rows))
    tooltip = [
        alt.Tooltip("phase:N"),
        alt.Tooltip("details:N"),
        alt.Tooltip("seconds:Q", format=",.2f"),
        *_time_tooltip("t", "from"),
    ]
    return (
        alt.Chart(alt.NamedData("phases"), title="Phases")
        .mark_rect(clip=True, cornerRadius=2, opacity=0.85)
        .encode(
            x=time,
            x2="end",
            y=alt.Y(
                "phase:N",
                sort=names,
                title=None,
                axis=alt.Axis(grid=False, labelLimit=LABEL_PIXELS - 6),
            ),
            color=alt.Color("colour:N", scale=None),
            tooltip=tooltip,
        )
        .properties(width=WIDTH_PIXELS, height=alt.Step(18))
    )


def _panel_chart(charts: Charts, name: str, panel: Panel, time_seconds: Series, time: alt.X) -> Any:
    """Draw a panel: as curves, as strips or as one band.

    Strips where curves would jump between 0 and 100; a band where there are too many curves.
    """
    data = alt.NamedData(name)
    if panel.shows_idle and panel.alike and len(panel.curves) > 2:
        charts.curves[name] = _columns(
            {label: thin(time_seconds, panel.curves[label], STRIP_POINTS) for label in panel.curves}
        )
        return _strips(data, panel, time)
    if len(panel.curves) > MOST_CURVES:
        charts.curves[name] = _columns({"all": digest(panel, time_seconds, POINTS)})
        shade, line = digest_layers(name, panel, time)
        many = f"mean of {len(panel.curves)}, shaded from the lowest to the highest"
        title = f"{panel.title}, {panel.unit}: {many}"
        layers = alt.layer(bands(time), shade, line, _reader(data, ["all"], time))
        return layers.properties(width=WIDTH_PIXELS, height=110, title=title)
    charts.curves[name] = _columns(
        {label: thin(time_seconds, panel.curves[label], POINTS) for label in panel.curves}
    )
    return _curves(data, panel, name, time)


def _curves(data: alt.NamedData, panel: Panel, name: str, time: alt.X) -> Any:
    chosen = alt.selection_point(name=f"chosen_{name}", fields=["label"], bind="legend")
    colour = alt.Color(
        "label:N",
        scale=alt.Scale(domain=list(panel.curves), range=CURVE_COLOURS),
        legend=alt.Legend() if len(panel.curves) > 1 else None,
    )
    shade = alt.Chart(data).mark_area(clip=True)
    shade = shade.encode(
        x=time,
        y=alt.Y("low:Q"),
        y2="high",
        color=colour,
        opacity=alt.condition(chosen, alt.value(0.22), alt.value(0.02)),
    )
    line = alt.Chart(data).mark_line(clip=True, strokeWidth=1.4)
    line = line.encode(
        x=time,
        y=value_axis(panel, "mean"),
        color=colour,
        opacity=alt.condition(chosen, alt.value(1), alt.value(0.12)),
    )
    layers = alt.layer(
        bands(time), shade, line.add_params(chosen), _reader(data, list(panel.curves), time)
    )
    return layers.properties(width=WIDTH_PIXELS, height=120, title=f"{panel.title}, {panel.unit}")


def _strips(data: alt.NamedData, panel: Panel, time: alt.X) -> alt.Chart:
    """Draw a strip per GPU, the darker the busier: an idle one shows as a gap."""
    few = len(panel.curves) <= 2 * MOST_CURVES
    return (
        alt.Chart(data, title=f"{panel.title}, {panel.unit}: the darker, the busier")
        .mark_rect(clip=True, color=CURVE_COLOURS[0])
        .encode(
            x=time,
            x2="next",
            y=alt.Y(
                "label:N",
                sort=list(panel.curves),
                title=None,
                axis=alt.Axis(grid=False, labelOverlap=True),
            ),
            opacity=alt.Opacity(
                "mean:Q", scale=alt.Scale(domain=[0, 100], range=[0.04, 1]), legend=None
            ),
            tooltip=[
                *_time_tooltip("t", "time"),
                alt.Tooltip("label:N", title="device"),
                alt.Tooltip("mean:Q", format=".0f"),
                alt.Tooltip("low:Q", format=".0f"),
                alt.Tooltip("high:Q", format=".0f"),
            ],
        )
        .properties(width=WIDTH_PIXELS, height=alt.Step(20 if few else 7))
    )


def _stack_chart(charts: Charts, stack: Stack, time: alt.X) -> Any:
    """Draw how long steps took, split into their phases."""
    charts.curves["stack"] = _columns(
        {
            label: thin(stack.time_seconds, values, POINTS // 2)
            for label, values in stack.curves.items()
        }
    )
    colour = alt.Color(
        "label:N", scale=alt.Scale(domain=list(stack.curves), range=PHASE_COLOURS), sort=None
    )
    area = alt.Chart(alt.NamedData("stack"), title=stack.title).mark_area(clip=True, opacity=0.85)
    return area.encode(
        x=time,
        y=alt.Y("mean:Q", stack="zero", axis=alt.Axis(title=None, tickCount=5)),
        color=colour,
        tooltip=[alt.Tooltip("label:N", title="phase"), *_time_tooltip("t", "time")],
    ).properties(width=WIDTH_PIXELS, height=110)


def _reader(data: alt.NamedData, labels: list[str], time: alt.X) -> alt.Chart:
    """Draw invisible columns, one per point in time, that show all values in a tooltip."""
    if labels == ["all"]:
        tooltip = [alt.Tooltip(f"{kind}:Q", format=",.2f") for kind in ("mean", "low", "high")]
        chart = alt.Chart(data)
    else:
        tooltip = [alt.Tooltip(f"{label}:Q", format=",.2f") for label in labels]
        chart = alt.Chart(data).transform_pivot("label", value="mean", groupby=["t", "next"])
    return chart.mark_rect(color="#8a93a3", opacity=0.001, clip=True).encode(
        x=time, x2="next", tooltip=[*_time_tooltip("t", "time"), *tooltip]
    )


# --- Parts that the picture (picture.py) needs too.


def bands(time: alt.X) -> alt.Chart:
    """Draw the phases of the data set `phases` behind a chart."""
    chart = alt.Chart(alt.NamedData("phases")).mark_rect(opacity=0.12, clip=True)
    return chart.encode(x=time, x2="end", color=alt.Color("colour:N", scale=None))


def digest_layers(
    dataset: str, panel: Panel, time: alt.X, ticks: int = 3
) -> tuple[alt.Chart, alt.Chart]:
    """Draw a panel in brief: a shade from the lowest to the highest, and a line of the mean."""
    colour = alt.value(CURVE_COLOURS[0])
    # Two charts from scratch: copies of one share Altair's name for it, and a parameter lands on
    # both.
    shade = alt.Chart(alt.NamedData(dataset)).mark_area(opacity=0.25, clip=True)
    line = alt.Chart(alt.NamedData(dataset)).mark_line(strokeWidth=1.5, clip=True)
    return (
        shade.encode(x=time, y="low:Q", y2="high", color=colour),
        line.encode(x=time, y=value_axis(panel, "mean", ticks), color=colour),
    )


def time_axis(
    span: tuple[float, float],
    brush: alt.Parameter | None = None,
    labels: bool = True,
    ticks: int = 8,
) -> alt.X:
    """Return the time axis that charts share."""
    start, end = span
    clock = "%H:%M:%S" if end - start < 86_400 else "%d %b %H:%M"
    axis = alt.Axis(
        title=None,
        grid=False,
        labelOverlap=True,
        labelFlush=False,
        tickCount=ticks,
        format=clock,
        labels=labels,
    )
    if brush is None:
        scale = alt.Scale(
            type="utc", nice=False, domainMin=milliseconds(start), domainMax=milliseconds(end)
        )
    else:
        scale = alt.Scale(type="utc", nice=False, domain=brush)
    return alt.X("t:T", scale=scale, axis=axis)


def value_axis(panel: Panel, of: str, ticks: int = 5) -> alt.Y:
    """Return the axis of a panel's values."""
    nothing = all(
        not np.nanmax(np.abs(panel.curves[label])) for label in list(panel.curves)[:MOST_CURVES]
    )
    top = panel.top or (1 if nothing else None)
    scale = alt.Scale(domain=[0, top]) if top else alt.Scale(zero=panel.from_zero)
    return alt.Y(f"{of}:Q", scale=scale, axis=alt.Axis(title=None, tickCount=ticks))


def axis_config(colour: str | None = None) -> alt.AxisConfig:
    """Return unobtrusive axes; a page sets its own colours."""
    colours: dict[str, Any] = (
        {"labelColor": colour, "tickColor": colour, "gridColor": colour} if colour else {}
    )
    return alt.AxisConfig(
        domain=False, gridOpacity=0.15, tickOpacity=0.4, labelFontSize=11, **colours
    )


def band_rows(phases: Sequence[Phase]) -> list[Row]:
    """Return the longest phases as rows, in order of time."""
    names = list(dict.fromkeys(phase.name for phase in phases))
    colours = {name: PHASE_COLOURS[place % len(PHASE_COLOURS)] for place, name in enumerate(names)}
    drawn = sorted(phases, key=lambda phase: -phase.seconds)[:MOST_BANDS]
    drawn.sort(key=lambda phase: phase.started_at)
    return [
        {
            "phase": phase.name,
            "colour": colours[phase.name],
            "t": milliseconds(phase.started_at),
            "end": milliseconds(phase.ended_at),
            "seconds": round(phase.seconds, 3),
            "details": ", ".join(f"{key} {value}" for key, value in phase.details.items()),
        }
        for phase in drawn
    ]


def _time_tooltip(of: str, title: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip(
            f"{of}:T", title=f"{title} (UTC)", timeUnit="utcyearmonthdatehoursminutesseconds"
        )
    ]


def _columns(curves: dict[str, Thinned]) -> Row:
    """Return curves that share their times, as columns.

    These are `labels`, `t` in milliseconds, and of each curve `low`, `mean` and `high`.
    """
    times = next(iter(curves.values())).time_seconds
    return {
        "labels": list(curves),
        "t": [milliseconds(time) for time in times],
        **{
            kind: [_numbers(getattr(each, kind)) for each in curves.values()]
            for kind in ("low", "mean", "high")
        },
    }


def curve_rows(columns: Row) -> list[Row]:
    """Return the rows that a page's script derives from `curves`, for drawing without a browser."""
    following = [*columns["t"][1:], columns["t"][-1] + 1] if columns["t"] else []
    return [
        {"label": label, "t": t, "next": after, "low": low, "mean": mean, "high": high}
        for place, label in enumerate(columns["labels"])
        for t, after, low, mean, high in zip(
            columns["t"],
            following,
            *(columns[kind][place] for kind in ("low", "mean", "high")),
            strict=True,
        )
    ]


def curves_of(panel: Panel, time_seconds: Series, points: int) -> Row:
    """Return a panel in brief, as columns."""
    return _columns({"all": digest(panel, time_seconds, points)})


def _numbers(values: Series) -> list[float | int | None]:
    """Return values rounded to four digits, which is more than a pixel shows."""
    return [None if np.isnan(value) else _short(float(f"{value:.4g}")) for value in values.tolist()]


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def milliseconds(seconds: float) -> int:
    """Return seconds in the unit of Vega's times."""
    return round(seconds * 1000)
