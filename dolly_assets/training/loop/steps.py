"""The optimizer steps of an epoch: as records, as a table, as a picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from dolly_assets.core.png import png
from dolly_assets.profiling.series.samples import thin

PICTURE_POINTS = 30


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    step: int
    loss: float  # nats per labelled token, mean over the global batch
    learning_rate: float
    grad_norm: float
    ended_at: float  # seconds since the Unix epoch


def step_records(steps: Sequence[Step]) -> pa.Table:
    """The steps as a table: step, loss, learning_rate, grad_norm, ended_at."""
    return pa.Table.from_pylist([asdict(step) for step in steps])


def loss_curve_png(steps: pa.Table) -> bytes:
    """Loss over the steps of a table of `step_records`, as a small PNG: the mean of neighbours, from lowest to highest.

    Every epoch carries its picture, so it has few points: a line through each step would be most of
    what is sent.
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
