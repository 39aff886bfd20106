"""Samples as columns: reading a span of the journal, deriving rates, statistics, and thinning for the eye.

A series is named by its path in the sample, such as `gpu.0.power_watts` or `host.cpu_percent`, and is an
array with NaN where a reading is missing. New readings become new series with no change here. Knows nothing
of charts.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolly_assets.profiling.journal import read_journal

Series = NDArray[np.float64]

# Counter series and the rate derived from each: (rate's name, factor).
_RATES = {
    "process.cpu_seconds": ("process.cpu_percent", 100.0),
    "host.disk_read_bytes": ("host.disk_read_bytes_per_second", 1.0),
    "host.disk_written_bytes": ("host.disk_written_bytes_per_second", 1.0),
    "host.network_received_bytes": ("host.network_received_bytes_per_second", 1.0),
    "host.network_sent_bytes": ("host.network_sent_bytes_per_second", 1.0),
}


@dataclass(frozen=True)
class Samples:
    """The samples of a span, in order of time.

    Attributes:
        time_seconds: UTC epoch seconds, shape (samples,).
        series: Arrays of shape (samples,), by name.
    """

    time_seconds: Series
    series: dict[str, Series]

    def __len__(self) -> int:
        return len(self.time_seconds)

    def get(self, name: str) -> Series:
        """The series, or an empty array when no sample has it."""
        values = self.series.get(name)
        return np.empty(0) if values is None or np.isnan(values).all() else values


def read_samples(path: Path, started_at: float, ended_at: float) -> Samples:
    """Reads the samples between two UTC epoch times (both inclusive) and adds the rates of the known
    counters.

    `process.cpu_percent` counts one busy core as 100.
    """
    times = array("d")
    columns: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))

    def wanted(line: bytes) -> bool:
        try:
            return started_at <= float(line[:40].partition(b":")[2].partition(b",")[0]) <= ended_at
        except ValueError:
            return False

    for row, record in enumerate(read_journal(path, wanted)):
        times.append(record.pop("time_seconds"))
        for name, value in _flat(record):
            column = columns[name]
            if len(column) < row:
                _pad(column, row)
            column.append(value)
    for column in columns.values():
        _pad(column, len(times))

    time_seconds = np.asarray(times, dtype=np.float64)
    order = np.argsort(time_seconds, kind="stable")  # a stepped clock can put lines out of order
    series = {name: np.asarray(column, dtype=np.float64)[order] for name, column in columns.items()}
    time_seconds = time_seconds[order]
    for counter, (rate, factor) in _RATES.items():
        if counter in series:
            series[rate] = factor * _rate(time_seconds, series[counter])
    return Samples(time_seconds, series)


def _flat(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield prefix + key, value


def _pad(column: "array[float]", length: int) -> None:
    column.extend([float("nan")] * (length - len(column)))


def _rate(time_seconds: Series, counter: Series) -> Series:
    """Increase per second since the sample before. Where a counter fell (restarted) there is none."""
    rate = np.full_like(counter, np.nan)
    elapsed, increase = np.diff(time_seconds), np.diff(counter)
    usable = (elapsed > 0) & (increase >= 0)
    rate[1:][usable] = increase[usable] / elapsed[usable]
    return rate


def counter_increase(counter: Series) -> float:
    """How much a counter grew over the span; a restart at zero costs the one step."""
    steps = np.diff(counter[~np.isnan(counter)])
    return float(steps[steps > 0].sum())


def typical_interval_seconds(time_seconds: Series) -> float:
    """The median time between samples, 0 with fewer than two."""
    return float(np.median(np.diff(time_seconds))) if len(time_seconds) > 1 else 0.0


@dataclass(frozen=True)
class Thinned:
    """A series in buckets of consecutive samples: shape (buckets,) each, NaN where a bucket has no reading.

    `time_seconds` is the bucket's first sample.
    """

    time_seconds: Series
    low: Series
    mean: Series
    high: Series


def thin(time_seconds: Series, values: Series, bucket_count: int) -> Thinned:
    """Thins a series to at most `bucket_count` points and keeps each bucket's minimum and maximum.

    No extreme is lost: what one sample in a hundred thousand did is still on the chart.
    """
    count = len(values)
    if not count:
        return Thinned(time_seconds, values, values, values)
    starts = np.linspace(0, count, min(bucket_count, count), endpoint=False).astype(np.int64)
    present = np.add.reduceat(~np.isnan(values), starts, dtype=np.int64)
    total = np.add.reduceat(np.nan_to_num(values), starts)
    mean = np.divide(total, present, out=np.full(len(starts), np.nan), where=present > 0)
    low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)  # fmin, fmax pass over NaN
    return Thinned(time_seconds[starts], low, mean, high)
