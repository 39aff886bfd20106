"""Reads a sampler's journal as reports do: by way of a Parquet file."""

import tempfile
from pathlib import Path

from dolly_assets.profiling.series.samples import Samples, write_samples


def read_samples(journal: Path, started_at: float = 0.0, ended_at: float = 1e12) -> Samples:
    """Return the samples of a span; the file behind them is mapped and lives as long as they do."""
    with tempfile.TemporaryDirectory() as folder:
        return write_samples(journal, started_at, ended_at, Path(folder) / "samples.parquet")
