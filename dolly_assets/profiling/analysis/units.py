"""Figures of a profile in words, the same on pages, in tables and on the terminal.

Formats through `core.text`; what is None was not measured, and its text says so.
"""

from collections.abc import Callable
from functools import partial

from dolly_assets.core import text

UNMEASURED = "not measured"

Words = Callable[[float | None], str]


def _or_unmeasured(words: Callable[[float], str]) -> Words:
    return lambda value: UNMEASURED if value is None else words(value)


def _number(value: float) -> str:
    is_whole = abs(value) >= 100 or float(value).is_integer()
    return f"{value:,.0f}" if is_whole else f"{value:.3g}"


def _grams(value: float) -> str:
    return f"{value / 1000:.2f} kg" if value >= 1000 else f"{value:.1f} g"


def _flops(per_second: float) -> str:
    if per_second >= 1e12:
        return f"{per_second / 1e12:,.1f} TFLOP/s"
    return f"{per_second / 1e9:,.1f} GFLOP/s"


duration = _or_unmeasured(text.duration)
size = _or_unmeasured(text.memory_size)
energy = _or_unmeasured(text.energy)
dollars = _or_unmeasured(text.dollars)
share = _or_unmeasured(partial(text.percent, digits=1))  # 0 to 1 as percent
number = _or_unmeasured(_number)  # three significant digits, thousands separated
grams = _or_unmeasured(_grams)
flops = _or_unmeasured(_flops)  # given per second
