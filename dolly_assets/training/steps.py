"""The optimizer steps of an epoch: as records, as a table, as a picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa


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
    """Loss over the steps of a table of `step_records`, each step and their running mean, as PNG."""
    import altair
    import vl_convert

    curve = altair.Chart(altair.Data(values=steps.select(["step", "loss"]).to_pylist()))
    x = altair.X("step:Q", title="optimizer step", scale=altair.Scale(zero=False, nice=False))
    each = curve.mark_line(opacity=0.35, strokeWidth=1).encode(x, altair.Y("loss:Q", title="training loss"))
    window = max(1, len(steps) // 20)
    mean = (
        curve.transform_window(mean="mean(loss)", frame=[-window, 0])
        .mark_line(strokeWidth=2)
        .encode(x, altair.Y("mean:Q"))
    )
    chart = (each + mean).properties(width=560, height=180, background="white")
    return vl_convert.vegalite_to_png(chart.to_json(), scale=1)
