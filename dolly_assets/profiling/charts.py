"""Panels and phases as Vega-Lite, through Altair: the linked charts of a page, and one small picture.

Colours are middle tones that read on white and on black. The page's charts leave their text to the page
(`currentColor`); the picture can't know where it will be shown, so it brings its own dark ground.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt  # noqa: TID253 - heavy, so report.py imports this module only when it draws
import numpy as np

from dolly_assets.profiling.panels import Panel
from dolly_assets.profiling.phases import Phase
from dolly_assets.profiling.samples import Series, Thinned, thin

CURVE_COLOURS = ("#3b82c4", "#e0782a", "#2fa06a", "#c9518f", "#8a6fd1", "#b8902a", "#2ba3b5", "#d0504a")
PHASE_COLOURS = ("#5b8def", "#e8a33d", "#59b38a", "#b07cc6", "#d9756c", "#5fb0c9", "#a3a14e", "#9a8478")
WIDTH_PIXELS = 880
BUCKETS = 450  # one point per two pixels
MOST_BANDS = 400  # more spans than this are a texture, not bands: the longest are drawn
_PICTURE_WIDTH_PIXELS = 555  # of the plots: some 640 with the axis' labels
_PICTURE_GROUND = "#1f242d"  # opaque: vl-convert 1.9 turns translucent colours grey on a transparent PNG
_PICTURE_INK = "#dfe3ea"

Row = dict[str, Any]


def page_charts(
    panels: Sequence[Panel], phases: Sequence[Phase], time_seconds: Series, span: tuple[float, float]
) -> dict[str, Any]:
    """One Vega-Lite specification: an overview to drag over, the phases as lanes, and every panel under it.

    Args:
        panels: At least one.
        phases: With their ends known and inside the span.
        time_seconds: UTC epoch seconds of the panels' samples, shape (samples,).
        span: Start and end in UTC epoch seconds.
    """
    bands = _band_rows(phases)
    start, end = _milliseconds(span[0]), _milliseconds(span[1])
    brush = alt.selection_interval(name="zoom", encodings=["x"], value={"x": [start, end]})
    time = _time_axis(span, brush)
    datasets: dict[str, list[Row]] = {
        "phases": bands,
        "overview": _digest_rows(panels[0], time_seconds),
    }
    rows: list[Any] = [_overview(panels[0], _time_axis(span), brush)]
    if bands:
        rows.append(_lanes(bands, time))
    for number, panel in enumerate(panels):
        datasets[f"panel_{number}"] = _curve_rows(panel, time_seconds)
        rows.append(_panel_chart(panel, number, time))
    charts = alt.vconcat(*rows, spacing=22).resolve_scale(color="independent", opacity="independent")
    charts = charts.configure(
        background="transparent",
        font="system-ui, sans-serif",
        view=alt.ViewConfig(stroke=None),
        axis=_axis_config("currentColor"),
        axisY=alt.AxisConfig(minExtent=100, maxExtent=100),  # so that all panels start at one x
        title=alt.TitleConfig(color="currentColor", anchor="start", fontSize=13, fontWeight=600, offset=8),
        legend=alt.LegendConfig(
            labelColor="currentColor",
            symbolOpacity=1,
            direction="horizontal",
            title=None,
            orient="none",
            legendX=0,
            legendY=-22,
        ),
    )
    return charts.to_dict() | {"datasets": datasets}  # past Altair, which would validate every row


def picture(
    panels: Sequence[Panel],
    phases: Sequence[Phase],
    time_seconds: Series,
    span: tuple[float, float],
    headline: str,
) -> bytes:
    """A small PNG: the first two panels, the mean of their curves, and shades from the lowest to the highest.

    Without panels it is the headline alone. See `page_charts` for the arguments.
    """
    import vl_convert

    datasets: dict[str, list[Row]] = {"phases": _band_rows(phases)}
    rows: list[Any] = []
    for number, (panel, height) in enumerate(zip(panels[:2], (84, 44), strict=False)):
        datasets[f"panel_{number}"] = _digest_rows(panel, time_seconds)
        time = _time_axis(span, labels=number == len(panels[:2]) - 1, ticks=5)
        layers = _digest_layers(f"panel_{number}", panel, time)
        title = f"{panel.title}, {panel.unit}{_digest_key(panel)}"
        rows.append(
            alt.layer(_bands(time), *layers).properties(width=_PICTURE_WIDTH_PIXELS, height=height, title=title)
        )
    rows = rows or [alt.Chart(alt.NamedData("phases")).mark_point().properties(width=_PICTURE_WIDTH_PIXELS, height=1)]
    picture_title = alt.TitleParams(
        textwrap.wrap(headline, 95), color=_PICTURE_INK, anchor="start", fontSize=12, fontWeight=600, offset=6
    )
    charts = alt.vconcat(*rows, spacing=4, title=picture_title).configure(
        background=_PICTURE_GROUND,
        font="sans-serif",
        padding=10,
        view=alt.ViewConfig(stroke=None),
        axis=_axis_config(_PICTURE_INK),
        axisY=alt.AxisConfig(minExtent=40, maxExtent=40),
        title=alt.TitleConfig(color=_PICTURE_INK, anchor="start", fontSize=11, fontWeight=400, offset=3),
    )
    return vl_convert.vegalite_to_png(charts.to_dict() | {"datasets": datasets})


# --- The charts of a page.


def _overview(panel: Panel, time: alt.X, brush: alt.Parameter) -> Any:
    shade, line = _digest_layers("overview", panel, time, ticks=2)
    title = f"{panel.title}: drag here to zoom every chart, double-click to see it all"
    layers = alt.layer(_bands(time), shade, line.add_params(brush))
    return layers.properties(width=WIDTH_PIXELS, height=44, title=title)


def _lanes(bands: list[Row], time: alt.X) -> alt.Chart:
    names = list(dict.fromkeys(row["phase"] for row in bands))
    tooltip = [
        alt.Tooltip("phase:N"),
        alt.Tooltip("details:N"),
        alt.Tooltip("seconds:Q", format=",.1f"),
        *_time_tooltip("t", "from"),
    ]
    return (
        alt.Chart(alt.NamedData("phases"), title="Phases")
        .mark_rect(clip=True, cornerRadius=2, opacity=0.85)
        .encode(
            x=time,
            x2="end",
            y=alt.Y("phase:N", sort=names, title=None, axis=alt.Axis(grid=False, labelLimit=94)),
            color=alt.Color("colour:N", scale=None),
            tooltip=tooltip,
        )
        .properties(width=WIDTH_PIXELS, height=alt.Step(18))
    )


def _panel_chart(panel: Panel, number: int, time: alt.X) -> Any:
    data = alt.NamedData(f"panel_{number}")
    if panel.title == "GPU utilization" and len(panel.curves) > 2:
        return _strips(data, panel, time)  # more than two curves that jump between 0 and 100 hide each other
    chosen = alt.selection_point(name=f"chosen_{number}", fields=["label"], bind="legend")
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
        y=_value_axis(panel, "mean"),
        color=colour,
        opacity=alt.condition(chosen, alt.value(1), alt.value(0.12)),
    )
    layers = alt.layer(_bands(time), shade, line.add_params(chosen), _reader(data, panel, time))
    return layers.properties(width=WIDTH_PIXELS, height=130, title=f"{panel.title}, {panel.unit}")


def _strips(data: alt.Data | alt.NamedData, panel: Panel, time: alt.X) -> alt.Chart:
    """A strip per GPU, the fuller the colour the busier: an idle one shows as a hole."""
    return (
        alt.Chart(data, title=f"{panel.title}, {panel.unit}: the fuller the colour, the busier")
        .mark_rect(clip=True, color=CURVE_COLOURS[0])
        .encode(
            x=time,
            x2="next",
            y=alt.Y("label:N", sort=list(panel.curves), title=None, axis=alt.Axis(grid=False)),
            opacity=alt.Opacity("mean:Q", scale=alt.Scale(domain=[0, 100], range=[0.04, 1]), legend=None),
            tooltip=[
                *_time_tooltip("t", "time"),
                alt.Tooltip("label:N", title="device"),
                alt.Tooltip("mean:Q", format=".0f"),
                alt.Tooltip("low:Q", format=".0f"),
                alt.Tooltip("high:Q", format=".0f"),
            ],
        )
        .properties(width=WIDTH_PIXELS, height=alt.Step(20))
    )


def _reader(data: alt.NamedData, panel: Panel, time: alt.X) -> alt.Chart:
    """Unseen columns, one per point in time, that read all curves of the panel to the pointer."""
    chart = alt.Chart(data).transform_pivot("label", value="mean", groupby=["t", "next"])
    tooltip = [alt.Tooltip(f"{label}:Q", format=",.2f") for label in panel.curves]
    return chart.mark_rect(color="#8a93a3", opacity=0, clip=True).encode(
        x=time, x2="next", tooltip=[*_time_tooltip("t", "time"), *tooltip]
    )


# --- Parts that page and picture share.


def _bands(time: alt.X) -> alt.Chart:
    chart = alt.Chart(alt.NamedData("phases")).mark_rect(opacity=0.12, clip=True)
    return chart.encode(x=time, x2="end", color=alt.Color("colour:N", scale=None))


def _digest_layers(dataset: str, panel: Panel, time: alt.X, ticks: int = 3) -> tuple[alt.Chart, alt.Chart]:
    colour = alt.Color("label:N", scale=alt.Scale(range=CURVE_COLOURS), sort=list(panel.curves), legend=None)
    # Two charts from scratch: copies of one share Altair's name for it, and a parameter lands on both.
    shade = alt.Chart(alt.NamedData(dataset)).mark_area(opacity=0.25, clip=True)
    line = alt.Chart(alt.NamedData(dataset)).mark_line(strokeWidth=1.5, clip=True)
    return (
        shade.encode(x=time, y="low:Q", y2="high", color=colour),
        line.encode(x=time, y=_value_axis(panel, "mean", ticks), color=colour),
    )


def _digest_key(panel: Panel) -> str:
    """What the picture's curves are, in words: it has no room for a legend."""
    if panel.alike:
        return " (mean, lowest to highest GPU)" if len(panel.curves) > 1 else ""
    named = [f"{label} {colour}" for label, colour in zip(panel.curves, ("blue", "orange"), strict=False)]
    return f" ({', '.join(named)})"


def _time_axis(
    span: tuple[float, float], brush: alt.Parameter | None = None, labels: bool = True, ticks: int = 8
) -> alt.X:
    start, end = span
    clock = "%H:%M:%S" if end - start < 86_400 else "%d %b %H:%M"
    axis = alt.Axis(
        title=None, grid=False, labelOverlap=True, labelFlush=False, tickCount=ticks, format=clock, labels=labels
    )
    if brush is None:
        scale = alt.Scale(type="utc", nice=False, domainMin=_milliseconds(start), domainMax=_milliseconds(end))
    else:
        scale = alt.Scale(type="utc", nice=False, domain=brush)
    return alt.X("t:T", scale=scale, axis=axis)


def _value_axis(panel: Panel, field: str, ticks: int = 5) -> alt.Y:
    nothing = all(np.nanmax(np.abs(values)) == 0 for values in panel.curves.values())
    top = panel.top or (1 if nothing else None)
    scale = alt.Scale(domain=[0, top]) if top else alt.Scale(zero=panel.from_zero)
    return alt.Y(f"{field}:Q", scale=scale, axis=alt.Axis(title=None, tickCount=ticks))


def _time_tooltip(field: str, title: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{field}:T", title=f"{title} (UTC)", timeUnit="utcyearmonthdatehoursminutesseconds")]


def _axis_config(colour: str) -> alt.AxisConfig:
    return alt.AxisConfig(
        labelColor=colour,
        tickColor=colour,
        domain=False,
        gridColor=colour,
        gridOpacity=0.15,
        tickOpacity=0.4,
        labelFontSize=11,
    )


# --- Rows: what the specification carries.


def _band_rows(phases: Sequence[Phase]) -> list[Row]:
    names = list(dict.fromkeys(phase.name for phase in phases))
    colours = {name: PHASE_COLOURS[place % len(PHASE_COLOURS)] for place, name in enumerate(names)}
    closed = [(phase, phase.ended_at) for phase in phases if phase.ended_at is not None]
    drawn = sorted(closed, key=lambda pair: pair[0].started_at - pair[1])[:MOST_BANDS]
    drawn.sort(key=lambda pair: pair[0].started_at)
    return [
        {
            "phase": phase.name,
            "colour": colours[phase.name],
            "t": _milliseconds(phase.started_at),
            "end": _milliseconds(ended_at),
            "seconds": round(ended_at - phase.started_at, 3),
            "details": ", ".join(f"{key} {value}" for key, value in phase.facts.items()),
        }
        for phase, ended_at in drawn
    ]


def _curve_rows(panel: Panel, time_seconds: Series) -> list[Row]:
    rows = []
    for label, values in panel.curves.items():
        rows += [{"label": label, **row} for row in _thinned_rows(thin(time_seconds, values, BUCKETS))]
    return rows


def _digest_rows(panel: Panel, time_seconds: Series) -> list[Row]:
    """The panel in little: alike curves become their mean between the lowest and the highest of them."""
    if not panel.alike:
        return _curve_rows(panel, time_seconds)
    thinned = [thin(time_seconds, values, BUCKETS) for values in panel.curves.values()]
    low = np.fmin.reduce([each.low for each in thinned])
    high = np.fmax.reduce([each.high for each in thinned])
    means = np.array([each.mean for each in thinned])
    present = (~np.isnan(means)).sum(axis=0)
    mean = np.divide(np.nansum(means, axis=0), present, out=np.full(len(low), np.nan), where=present > 0)
    rows = _thinned_rows(Thinned(thinned[0].time_seconds, low, mean, high))
    return [{"label": "all", **row} for row in rows]


def _thinned_rows(thinned: Thinned) -> list[Row]:
    times = thinned.time_seconds
    if not len(times):
        return []
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    rows: list[Row] = []
    for place, time in enumerate(times):
        following = times[place + 1] if place + 1 < len(times) else time + step
        gap = following - time > 5 * step
        row = {
            "t": _milliseconds(time),
            "next": _milliseconds(time + step if gap else following),
            "low": _number(thinned.low[place]),
            "mean": _number(thinned.mean[place]),
            "high": _number(thinned.high[place]),
        }
        rows.append(row)
        if gap:  # a row without values breaks the line where nothing was sampled
            rows.append({"t": row["next"], "next": row["next"], "low": None, "mean": None, "high": None})
    return rows


def _number(value: float) -> float | None:
    """Four digits are more than a pixel shows."""
    return None if np.isnan(value) else float(f"{value:.4g}")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
