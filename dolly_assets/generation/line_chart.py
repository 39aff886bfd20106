"""A small chart of one measure over epochs, with intervals, as SVG that follows the page's colours.

It needs no script and no other file, unlike the pictures for Dagster.
"""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 34
TICKS = 4


class Point(NamedTuple):
    """A value of an epoch, with its interval; without one the bounds are the value."""

    epoch: int
    value: float
    low: float
    high: float


def line_chart(title: str, points: Sequence[Point], form: str) -> str:
    """Return the chart as an SVG element.

    Args:
        title: What is measured.
        points: The values, by epoch, at least one; all are finite.
        form: How values are written, such as `.3f`.
    """
    ticks = _ticks(min(point.low for point in points), max(point.high for point in points))
    bottom, top = ticks[0], ticks[-1]
    across = {
        point.epoch: LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / len(points)
        for place, point in enumerate(points)
    }

    def up(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - bottom) / (top - bottom))

    lines = [_tick(up(value), f"{value:{form}}") for value in ticks]
    every = math.ceil(len(points) / 11)
    lines += [
        f'<text x="{across[point.epoch]:.1f}" y="{HEIGHT - 14}" text-anchor="middle">'
        f"{point.epoch}</text>"
        for place, point in enumerate(points)
        if place % every == 0
    ]
    path = " ".join(f"{across[point.epoch]:.1f},{up(point.value):.1f}" for point in points)
    lines.append(f'<polyline class="line" points="{path}"/>')
    lines += [
        f"<g><title>epoch {point.epoch}: {point.value:{form}} ({point.low:{form}} to "
        f'{point.high:{form}})</title><line class="bar" x1="{across[point.epoch]:.1f}" '
        f'x2="{across[point.epoch]:.1f}" y1="{up(point.low):.1f}" y2="{up(point.high):.1f}"/>'
        f'<circle cx="{across[point.epoch]:.1f}" cy="{up(point.value):.1f}" r="4"/></g>'
        for point in points
    ]
    name = html.escape(title)
    return (
        f'<figure><figcaption>{name}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{name} by epoch">{"".join(lines)}</svg></figure>'
    )


def _tick(height: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers around the values, at equal distances."""
    span = (high - low) or abs(high) or 1.0
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * place for place in range(first, max(last, first + 1) + 1)]
