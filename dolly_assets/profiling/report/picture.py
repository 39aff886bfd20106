"""The small picture of a report: the first two panels, below the verdict.

It cannot know where it will be shown, so it has a dark background of its own.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt  # noqa: TID253 - heavy, so report.py imports this module only when it draws

from dolly_assets.core.png import png
from dolly_assets.profiling.analysis.panels import Panel
from dolly_assets.profiling.report import charts
from dolly_assets.profiling.series.phases import Phase
from dolly_assets.profiling.series.samples import Series

PICTURE_POINTS = 280
_WIDTH_PIXELS = 555  # of the plots: some 640 with the axis' labels
GROUND = "#1f242d"  # opaque: vl-convert 1.9 turns translucent colours grey on a transparent PNG
INK = "#dfe3ea"


def picture(
    panels: Sequence[Panel],
    phases: Sequence[Phase],
    time_seconds: Series,
    span: tuple[float, float],
    headline: str,
) -> bytes:
    """Draw a small PNG; without panels it is the headline alone.

    Args:
        panels: The first two are drawn.
        phases: Clipped to the span.
        time_seconds: UTC epoch seconds of the samples, shape (samples,).
        span: Start and end, in UTC epoch seconds.
        headline: The verdict.
    """
    datasets: dict[str, Any] = {"phases": charts.band_rows(phases)}
    rows: list[Any] = []
    for number, (panel, height) in enumerate(zip(panels[:2], (84, 44), strict=False)):
        name = f"panel_{number}"
        datasets[name] = charts.curve_rows(charts.curves_of(panel, time_seconds, PICTURE_POINTS))
        time = charts.time_axis(span, labels=number == len(panels[:2]) - 1, ticks=5)
        layers = alt.layer(charts.bands(time), *charts.digest_layers(name, panel, time))
        rows.append(layers.properties(width=_WIDTH_PIXELS, height=height, title=_title(panel)))
    rows = rows or [
        alt.Chart(alt.NamedData("phases")).mark_point().properties(width=_WIDTH_PIXELS, height=1)
    ]
    title = alt.TitleParams(
        textwrap.wrap(headline, 95),
        color=INK,
        anchor="start",
        fontSize=12,
        fontWeight=600,
        offset=6,
    )
    drawn = alt.vconcat(*rows, spacing=4, title=title).configure(
        background=GROUND,
        font="sans-serif",
        padding=10,
        view=alt.ViewConfig(stroke=None),
        axis=charts.axis_config(INK),
        axisY=alt.AxisConfig(minExtent=40, maxExtent=40),
        title=alt.TitleConfig(color=INK, anchor="start", fontSize=11, fontWeight=400, offset=3),
    )
    return png(drawn.to_dict(validate=False) | {"datasets": datasets})


def _title(panel: Panel) -> str:
    first = next(iter(panel.curves))
    many = "mean, shaded from the lowest to the highest GPU"
    what = (many if len(panel.curves) > 1 else first) if panel.alike else first
    return f"{panel.title}, {panel.unit} ({what})"
