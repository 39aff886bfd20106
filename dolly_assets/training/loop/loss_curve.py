"""The loss over the steps of an epoch, as a picture."""

import pyarrow as pa

from dolly_assets.core.png import png
from dolly_assets.profiling.series.samples import thin

PICTURE_POINTS = 30


def loss_curve_png(steps: pa.Table) -> bytes:
    """Draw the loss of a table of steps (`step`, `loss`) as a small PNG.

    The line is the mean of neighbouring steps, the shade runs from the lowest to the highest. Every
    epoch carries its picture, so it has few points: a line through each step would be most of what
    is sent.
    """
    import altair

    thinned = thin(steps["step"].to_numpy(), steps["loss"].to_numpy(), PICTURE_POINTS)
    columns = (thinned.time_seconds, thinned.low, thinned.mean, thinned.high)
    points = zip(*(column.tolist() for column in columns), strict=True)
    rows = [dict(zip(("step", "low", "mean", "high"), point, strict=True)) for point in points]
    curve = altair.Chart(altair.Data(values=rows))
    apart = altair.Axis(labelOverlap="greedy", labelSeparation=6)
    x = altair.X(
        "step:Q", title="optimizer step", scale=altair.Scale(zero=False, nice=False), axis=apart
    )
    y = altair.Y("low:Q", title="training loss")
    layers = curve.mark_area(opacity=0.25).encode(
        x, y, altair.Y2("high")
    ) + curve.mark_line().encode(x, altair.Y("mean:Q"))
    chart = layers.properties(width=480, height=150, background="white")
    return png(chart.to_dict())
