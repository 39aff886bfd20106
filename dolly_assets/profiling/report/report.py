"""The report over one span of samples: a page, a small picture, tables in Parquet, the numbers.

Takes the folder that a sampler, a trainer and its ranks wrote to, and two times. Knows no epochs
and no Dagster.
"""

import importlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dolly_assets.profiling.analysis.figures import Recording, ReportContext, summarize
from dolly_assets.profiling.analysis.health import device_health
from dolly_assets.profiling.analysis.panels import panels_of
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE, ReportSummary
from dolly_assets.profiling.record.devices import DEVICES_FILE, Hardware
from dolly_assets.profiling.record.events import read_events
from dolly_assets.profiling.record.sampler import SAMPLES_FILE
from dolly_assets.profiling.report import REPORT_FILE
from dolly_assets.profiling.report.page import vega, write_page
from dolly_assets.profiling.report.step_panels import step_panel, step_phases, step_stack
from dolly_assets.profiling.series.phases import PHASES_FILE, Phase, read_phases
from dolly_assets.profiling.series.samples import write_samples
from dolly_assets.profiling.series.steplog import read_steps

PICTURE_FILE = "picture.png"
PARQUET_FILE = "samples.parquet"
RANK_STEPS_FILE = "rank_steps.parquet"
PREFLIGHT_FILE = (
    "preflight.json"  # beside the samples: a JSON object, what was measured before the start
)
SHORTEST_SHARE = 1 / 2000  # of the span: a phase of a step that is shorter can't be seen
MOST_STEP_PHASES = 300


def build_report(
    folder: Path,
    *,
    title: str,
    started_at: float,
    ended_at: float,
    out: Path,
    context: ReportContext | None = None,
    previous: Sequence[ReportSummary] = (),
) -> ReportSummary:
    """Write the report over a span; return its numbers.

    It consists of report.html, picture.png, samples.parquet, rank_steps.parquet and summary.json. A
    training that still runs has no picture. Without samples the report says so; it never fails for
    what was not measured.

    Args:
        folder: Where the sampler, the phase log and the step log wrote.
        title: Heading of the report.
        started_at: Start of the span, UTC epoch seconds.
        ended_at: End of the span, UTC epoch seconds.
        out: The folder to write into; created if missing.
        context: What only the caller knows, such as prices.
        previous: Reports to compare with, under their titles.
    """
    from dolly_assets.profiling.report.charts import page_charts
    from dolly_assets.profiling.report.picture import picture

    out.mkdir(parents=True, exist_ok=True)
    known = context or ReportContext()
    span = (started_at, ended_at)
    recording = _read(folder, span, out / PARQUET_FILE)
    panels = panels_of(recording.samples, recording.hardware)
    summary = summarize(recording, panels, title, known)
    times = recording.samples.time_seconds
    bands = _with_steps(recording.phases, recording.steps, span)
    charts = None
    if panels:
        steps = (
            (step_panel(recording.steps), step_stack(recording.steps))
            if recording.steps.num_rows
            else (None, None)
        )
        charts = page_charts(panels, bands, times, span, *steps)
    write_page(out / REPORT_FILE, summary, recording, charts, previous, known)
    if not known.refresh_seconds:
        (out / PICTURE_FILE).write_bytes(
            picture(panels, recording.phases, times, span, summary.verdict)
        )
    if recording.steps.num_rows:
        pq.write_table(recording.steps, out / RANK_STEPS_FILE, compression="zstd")
    (out / SUMMARY_FILE).write_text(summary.model_dump_json(indent=2) + "\n")
    return summary


def get_ready(cache_dir: Path) -> None:
    """Load what every report needs, which takes seconds, so that the first report is quicker."""
    importlib.import_module(
        "dolly_assets.profiling.report.picture"
    )  # and with it charts.py and altair
    vega(cache_dir)


def _read(folder: Path, span: tuple[float, float], parquet: Path) -> Recording:
    hardware = Hardware.load(folder / DEVICES_FILE)
    samples = write_samples(folder / SAMPLES_FILE, *span, parquet)
    events = list(read_events(folder, *span))
    return Recording(
        hardware=hardware,
        samples=samples,
        phases=_inside(read_phases(folder / PHASES_FILE), *span),
        steps=read_steps(folder, *span),
        events=events,
        health=device_health(hardware, samples, events, folder, span),
        preflight=_read_preflight(folder / PREFLIGHT_FILE),
        span=span,
    )


def _read_preflight(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes()) if path.exists() else {}


def _inside(phases: Sequence[Phase], started_at: float, ended_at: float) -> list[Phase]:
    """Return the phases that overlap the span, clipped to it."""
    clipped = [
        replace(
            phase,
            started_at=max(phase.started_at, started_at),
            ended_at=min(phase.ended_at, ended_at),
        )
        for phase in phases
    ]
    return [phase for phase in clipped if phase.ended_at > phase.started_at]


def _with_steps(phases: Sequence[Phase], steps: pa.Table, span: tuple[float, float]) -> list[Phase]:
    """Return the marked phases, and those of the steps that are long enough to be visible."""
    return [*phases, *step_phases(steps, SHORTEST_SHARE * (span[1] - span[0]), MOST_STEP_PHASES)]
