"""Samples as columns: reads a span of the journal, derives rates, thins series for charts.

A series is named by its path in the sample, such as `gpu.0.power_watts` or `host.cpu_percent`, and
is an array with NaN where a reading is missing. New readings become new series without a change
here. Knows nothing of charts.

At each tick there are, of each GPU `gpu.<index>.`

- `gpu_utilization_percent` (some kernel ran), `memory_utilization_percent` (its memory was read or
  written);
- `sm_active_percent`, `sm_occupancy_percent`, `tensor_active_percent`, `dram_active_percent`: only
  chips since Hopper;
- `memory_used_bytes`, `memory_reserved_bytes` (by the driver; not part of the former, but with
  drivers before R510);
- `power_watts`, `energy_joules` (a counter: take the difference, not the sum of power),
  `temperature_celsius`, `memory_temperature_celsius`, `sm_clock_mhz`, `memory_clock_mhz`;
- `performance_state` (0 is the fastest), `throttle_reasons` (bits, see `THROTTLE_REASONS`);
- `mig.<index>.memory_used_bytes`, `mig.<index>.memory_reserved_bytes` of a MIG instance,

of the host `host.`

- `cpu_percent` (all cores are 100), `load_1m`, `memory_used_bytes`, `swap_used_bytes`, and the
  counters `disk_read_bytes`, `disk_written_bytes`, `network_received_bytes`, `network_sent_bytes`,

of the watched process and its descendants `process.cpu_seconds` (a counter), `process.memory_bytes`
and `process.process_count`, and of the sampler itself `sampler.cpu_seconds` (a counter). Every 10 s
only, and NaN in between, there are

- `gpu.<index>.`: `pcie_sent_bytes_per_second`, `pcie_received_bytes_per_second` (over 20 ms),
  `nvlink_sent_bytes`, `nvlink_received_bytes`, `nvlink_error_count` (counters over all links),
  `fan_percent`, `process_memory_bytes.<pid>`, `mig.<index>.process_memory_bytes.<pid>`;
- `sampler.memory_bytes`, and `container.`: `memory_bytes`, and the counters
  `cpu_throttled_seconds`, `cpu_pressure_seconds`, `memory_pressure_seconds`, `io_pressure_seconds`,
  `out_of_memory_kills`.

Of counters in bytes or seconds, the rate since the counter's last reading is a series too:
`…_bytes_per_second`, `process.cpu_percent` (one busy core is 100) and, for what a container waited,
`…_percent` of the time.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic_core import from_json

from dolly_assets.profiling.series.columns import read_blocks

Series = NDArray[np.float64]

TIME = "time_seconds"
_ROWS_PER_GROUP = 8192
_TAIL_BYTES = 1 << 20  # holds some lines of many GPUs
_MOST_NUMBERS_KEPT = 16_000_000  # 128 MB
# Counters, by the last part of their names, and the rate derived from each: (rate's name, factor).
_RATES = {
    "cpu_seconds": ("cpu_percent", 100.0),
    "disk_read_bytes": ("disk_read_bytes_per_second", 1.0),
    "disk_written_bytes": ("disk_written_bytes_per_second", 1.0),
    "network_received_bytes": ("network_received_bytes_per_second", 1.0),
    "network_sent_bytes": ("network_sent_bytes_per_second", 1.0),
    "nvlink_received_bytes": ("nvlink_received_bytes_per_second", 1.0),
    "nvlink_sent_bytes": ("nvlink_sent_bytes_per_second", 1.0),
    "cpu_throttled_seconds": ("cpu_throttled_percent", 100.0),
    "cpu_pressure_seconds": ("cpu_pressure_percent", 100.0),
    "memory_pressure_seconds": ("memory_pressure_percent", 100.0),
    "io_pressure_seconds": ("io_pressure_percent", 100.0),
}

# The bits of `throttle_reasons`: why a clock is not higher, from nvml.h's nvmlClocksEventReasons.
THROTTLE_REASONS = {
    0x1: "idle",
    0x2: "clocks set by an application",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown by the driver",
    0x40: "thermal slowdown by the hardware",
    0x80: "power brake",
    0x100: "display clocks",
}
THERMAL_REASONS = 0x20 | 0x40


@dataclass(frozen=True)
class Samples:
    """The samples of a span, in order of time.

    Attributes:
        time_seconds: UTC epoch seconds, shape (samples,).
        series: Arrays of shape (samples,), by name. They may be read from a file when they are
            accessed.
    """

    time_seconds: Series
    series: Mapping[str, Series]

    def __len__(self) -> int:
        return len(self.time_seconds)

    def get(self, name: str) -> Series:
        """Return the series, or an empty array when no sample has it."""
        values = self.series.get(name)
        return np.empty(0) if values is None or np.isnan(values).all() else values


def write_samples(path: Path, started_at: float, ended_at: float, parquet: Path) -> Samples:
    """Write the samples of a span of the journal to a Parquet file, and open it.

    Series are read from the file when they are accessed, so 64 GPUs over days fit in little memory.
    In the file `time_seconds` is UTC epoch seconds, and null means not measured.

    Args:
        path: The journal; if it is missing, there are no samples.
        started_at: Start of the span, UTC epoch seconds, inclusive.
        ended_at: End of the span, likewise.
        parquet: The file to write.
    """
    parts: list[Path] = []
    writer: pq.ParquetWriter | None = None
    for block in _gathered(read_blocks(path, TIME, started_at, ended_at)):
        if writer is None or set(block.column_names) - set(
            writer.schema.names
        ):  # a new column begins a new part
            known = writer.schema.names if writer else []
            if writer:
                writer.close()
            parts.append(parquet.with_suffix(f".part-{len(parts)}"))
            writer = _writer(parts[-1], list(dict.fromkeys([*known, *block.column_names])))
        writer.write_table(_widened(block, writer.schema))
    if writer:
        writer.close()
    with _writer(parquet, writer.schema.names if writer else [TIME]) as whole:
        for part in parts if len(parts) > 1 else ():
            with pq.ParquetFile(part) as file:
                for group in range(file.num_row_groups):
                    whole.write_table(_widened(file.read_row_group(group), whole.schema))
            part.unlink()
    if len(parts) == 1:
        parts[0].replace(parquet)
    return open_samples(parquet)


def last_sample_at(path: Path) -> float | None:
    """Return when the last whole sample was taken, in UTC epoch seconds; None without any."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]  # what follows the last newline is torn
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError):
            return float(from_json(line)[TIME])
    return None


def open_samples(parquet: Path) -> Samples:
    """Open the samples in a file that `write_samples` wrote."""
    file = pq.ParquetFile(parquet, memory_map=True)
    columns = _Columns(file.schema_arrow.names, lambda name: file.read([name]).column(0))
    return Samples(columns.time_seconds, columns)


def _gathered(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Join blocks to row groups of a size that suits Parquet."""
    waiting: list[pa.Table] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= _ROWS_PER_GROUP:
            yield pa.concat_tables(waiting, promote_options="default")
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting, promote_options="default")


def _writer(path: Path, names: list[str]) -> pq.ParquetWriter:
    schema = pa.schema([(name, pa.float64()) for name in names])
    return pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, use_dictionary=False
    )


def _widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with all columns of the schema, null where it has none."""
    missing = pa.nulls(table.num_rows, pa.float64())
    present = set(table.column_names)
    return pa.table({name: table[name] if name in present else missing for name in schema.names})


class _Columns(Mapping[str, Series]):
    """Columns in order of time, and the rates of the counters among them.

    Those used last are kept in memory.
    """

    def __init__(self, names: list[str], read: Callable[[str], pa.ChunkedArray]) -> None:
        self._read = read
        self._kept: OrderedDict[str, Series] = OrderedDict()
        times = read(TIME).to_numpy()
        order = np.argsort(times, kind="stable")  # a stepped clock can put lines out of order
        self._order = None if np.array_equal(order, np.arange(len(order))) else order
        self.time_seconds: Series = times[order]
        stored = [name for name in names if name != TIME]
        self._counters = {
            rate: (name, factor) for name in stored for rate, factor in _rate_of(name)
        }
        self._names = dict.fromkeys([*stored, *self._counters])

    def __getitem__(self, name: str) -> Series:
        if name not in self._kept:
            if name not in self._names:
                raise KeyError(name)
            self._kept[name] = self._load(name)
            if len(self._kept) * len(self.time_seconds) > _MOST_NUMBERS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _load(self, name: str) -> Series:
        if name in self._counters:
            counter, factor = self._counters[name]
            return factor * _rate(self.time_seconds, self[counter])
        values = self._read(name).to_numpy().astype(np.float64, copy=False)
        return values if self._order is None else values[self._order]


def _rate_of(counter: str) -> Iterator[tuple[str, float]]:
    """Yield the rate that is derived from a series, and its factor, if it has one."""
    group, _, name = counter.rpartition(".")
    if name in _RATES:
        rate, factor = _RATES[name]
        yield f"{group}.{rate}", factor


def _rate(time_seconds: Series, counter: Series) -> Series:
    """Return the increase per second since the previous reading.

    Where a counter fell (was restarted) there is none.
    """
    rate = np.full_like(counter, np.nan)
    read = np.flatnonzero(~np.isnan(counter))
    elapsed, increase = np.diff(time_seconds[read]), np.diff(counter[read])
    usable = (elapsed > 0) & (increase >= 0)
    rate[read[1:][usable]] = increase[usable] / elapsed[usable]
    return rate


def time_share(throttle_reasons: Series, mask: int) -> float:
    """Return the share of the readings, 0 to 1, in which a reason of the mask held.

    Without a reading it is 0.
    """
    readings = throttle_reasons[~np.isnan(throttle_reasons)].astype(np.int64)
    return float((readings & mask != 0).mean()) if len(readings) else 0.0


def counter_increase(counter: Series) -> float:
    """Return how much a counter grew; a restart at zero loses the one interval."""
    steps = np.diff(counter[~np.isnan(counter)])
    return float(steps[steps > 0].sum())


def typical_interval_seconds(time_seconds: Series) -> float:
    """Return the median time between samples, 0 with fewer than two."""
    return float(np.median(np.diff(time_seconds))) if len(time_seconds) > 1 else 0.0


@dataclass(frozen=True)
class Thinned:
    """A series in buckets of consecutive samples, shape (buckets,) each.

    Attributes:
        time_seconds: When the bucket's first sample was taken.
        low: Lowest reading of the bucket; NaN without any.
        mean: Mean of its readings.
        high: Highest reading.
    """

    time_seconds: Series
    low: Series
    mean: Series
    high: Series


def thin(time_seconds: Series, values: Series, bucket_count: int) -> Thinned:
    """Thin a series to at most `bucket_count` points, with each bucket's minimum and maximum.

    No extreme is lost: what one sample in a hundred thousand did is still on the chart. A reading
    that is taken every tenth sample holds until the next one.
    """
    count = len(values)
    if not count:
        return Thinned(time_seconds, values, values, values)
    values = _held(values)
    starts = np.linspace(0, count, min(bucket_count, count), endpoint=False).astype(np.int64)
    present = np.add.reduceat(~np.isnan(values), starts, dtype=np.int64)
    total = np.add.reduceat(np.nan_to_num(values), starts)
    mean = np.divide(total, present, out=np.full(len(starts), np.nan), where=present > 0)
    low, high = (
        np.fmin.reduceat(values, starts),
        np.fmax.reduceat(values, starts),
    )  # fmin, fmax pass over NaN
    return Thinned(time_seconds[starts], low, mean, high)


def _held(values: Series) -> Series:
    """Repeat each reading for as many samples as usually lie between two readings.

    A longer gap stays a gap.
    """
    read = np.flatnonzero(~np.isnan(values))
    reach = int(np.median(np.diff(read))) if len(read) > 1 else 1
    if reach == 1:
        return values
    place = np.arange(len(values))
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, place))
    return np.where((last >= 0) & (place - last < reach), values[last], np.nan)
