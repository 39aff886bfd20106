"""Samples as columns, on small arrays and files."""

import json
from pathlib import Path

import numpy as np
import pytest

from dolly_assets.profiling.series.samples import counter_increase, thin
from dolly_assets_tests.profiling.journals import read_samples


def _write(path: Path, *records: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records))


def test_thinning_keeps_every_minimum_and_maximum() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(50, 5, 108_000)
    values[77_777], values[31_415] = 1000.0, -1000.0
    thinned = thin(np.arange(108_000.0), values, 500)
    assert len(thinned.mean) == 500
    assert (np.max(thinned.high), np.min(thinned.low)) == (1000.0, -1000.0)
    buckets = values.reshape(500, 216)
    np.testing.assert_array_equal(thinned.high, buckets.max(axis=1))
    np.testing.assert_array_equal(thinned.low, buckets.min(axis=1))
    np.testing.assert_allclose(thinned.mean, buckets.mean(axis=1))


def test_few_samples_are_not_thinned_and_missing_readings_stay_missing() -> None:
    values = np.array([1.0, np.nan, 3.0, 4.0])
    thinned = thin(np.arange(4.0), values, 500)
    np.testing.assert_array_equal(thinned.mean, values)
    np.testing.assert_array_equal(thinned.high, values)
    halves = thin(np.arange(4.0), np.array([1.0, np.nan, np.nan, np.nan]), 2)
    np.testing.assert_array_equal(halves.low, [1.0, np.nan])


def test_a_reading_that_is_taken_now_and_then_holds_until_the_next_and_no_longer() -> None:
    values = np.full(50, np.nan)
    values[[0, 10, 20, 30]] = [1.0, 2.0, 3.0, 4.0]
    held = np.concatenate([np.repeat([1.0, 2.0, 3.0, 4.0], 10), np.full(10, np.nan)])
    np.testing.assert_array_equal(thin(np.arange(50.0), values, 500).mean, held)
    gone = np.where(
        (np.arange(50) > 20) & (np.arange(50) < 30), np.nan, 7.0
    )  # a device that was lost for a while
    np.testing.assert_array_equal(thin(np.arange(50.0), gone, 500).mean, gone)


def test_only_the_span_is_read_and_missing_readings_are_nan(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    _write(
        path,
        {"time_seconds": 1.0, "host": {"cpu_percent": 10}},
        {"time_seconds": 2.0, "host": {}},
        {"time_seconds": 3.0, "host": {"cpu_percent": 30}, "gpu": {"0": {"power_watts": 200}}},
        {"time_seconds": 9.0, "host": {"cpu_percent": 90}},
    )
    samples = read_samples(path, 2.0, 8.0)
    np.testing.assert_array_equal(samples.time_seconds, [2.0, 3.0])
    np.testing.assert_array_equal(samples.series["host.cpu_percent"], [np.nan, 30.0])
    np.testing.assert_array_equal(samples.series["gpu.0.power_watts"], [np.nan, 200.0])


def test_torn_lines_and_a_missing_file_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    assert len(read_samples(path, 0, 10)) == 0
    path.write_text(
        '{"time_seconds":1.0,"host":{"cpu_per\n{"time_seconds":2.0,"host":{}}\n{"time_sec'
    )
    np.testing.assert_array_equal(read_samples(path, 0, 10).time_seconds, [2.0])


def test_rates_come_from_counters_and_a_restart_has_none(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    counters = [(0.0, 0.0), (2.0, 3.0), (4.0, 1.0), (5.0, 1.5)]
    _write(
        path, *[{"time_seconds": time, "process": {"cpu_seconds": used}} for time, used in counters]
    )
    rate = read_samples(path, 0, 10).series["process.cpu_percent"]
    np.testing.assert_array_equal(rate, [np.nan, 150.0, np.nan, 50.0])
    assert counter_increase(np.array([0.0, 3.0, np.nan, 1.0, 1.5])) == pytest.approx(3.5)
