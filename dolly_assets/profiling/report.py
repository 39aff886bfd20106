"""The report over one span of samples: a page, a small picture, the samples as Parquet, and the numbers.

Takes the folder a sampler and a trainer wrote to, and two times. Knows no epochs and no Dagster.
"""

import html
import json
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from dolly_assets.config import Config
from dolly_assets.profiling.devices import Hardware
from dolly_assets.profiling.panels import Panel, panels_of
from dolly_assets.profiling.phases import PHASES_FILE, Phase, read_phases
from dolly_assets.profiling.sampler import DEVICES_FILE, SAMPLES_FILE
from dolly_assets.profiling.samples import Samples, Series, read_samples, typical_interval_seconds
from dolly_assets.profiling.verdict import energy_joules, unseen_seconds, verdict

REPORT_FILE = "report.html"
PICTURE_FILE = "picture.png"
PARQUET_FILE = "samples.parquet"
SUMMARY_FILE = "summary.json"

_EXPOSE_VEGA = "window.vegaEmbed = vegaEmbed;"


class SeriesSummary(Config):
    """The statistics of one curve over the span."""

    panel: str = Field(description="Such as 'GPU memory'.")
    label: str = Field(description="Such as 'GPU 0'.")
    unit: str = Field(description="Such as 'GiB'.")
    mean: float
    p50: float
    p95: float
    max: float


class PhaseSummary(Config):
    """All spans of one name."""

    name: str
    span_count: int
    seconds: float = Field(description="Sum of the spans' durations; nested or parallel spans are all counted.")
    mean_utilization_percent: float | None = Field(description="Of the GPUs, without any of the host's CPUs.")


class ReportSummary(Config):
    """The report in numbers. A number is None where nothing measured it."""

    title: str
    verdict: str
    started_at: float = Field(description="UTC epoch seconds.")
    ended_at: float = Field(description="UTC epoch seconds.")
    duration_seconds: float
    unseen_seconds: float = Field(description="Time of the span without samples.")
    samples_count: int
    device_kind: Literal["gpu", "cpu"]
    device_names: list[str]
    no_device_reason: str = Field(description="Why device_kind is cpu, else empty.")
    mean_gpu_utilization_percent: float | None = Field(description="Over time and GPUs.")
    max_gpu_utilization_percent: float | None
    peak_gpu_memory_bytes: int | None = Field(description="Of the fullest GPU.")
    energy_joules: float | None = Field(description="What the GPUs' counters grew by, all GPUs.")
    mean_cpu_percent: float | None = Field(description="Of the host, all cores.")
    max_cpu_percent: float | None
    peak_process_memory_bytes: int | None = Field(description="Sum of the watched tree's resident sizes.")
    peak_host_memory_bytes: int | None
    series: list[SeriesSummary]
    phases: list[PhaseSummary]


def build_report(folder: Path, *, title: str, started_at: float, ended_at: float, out: Path) -> ReportSummary:
    """Writes report.html, picture.png, samples.parquet and summary.json over a span.

    Without samples the report says so; it never fails for what was not measured.

    Args:
        folder: Where the sampler and the phase log wrote.
        title: Stands over the report.
        started_at: Start of the span, UTC epoch seconds.
        ended_at: End of the span, UTC epoch seconds.
        out: The folder to write into; made when missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    hardware = Hardware.load(folder / DEVICES_FILE)
    samples = read_samples(folder / SAMPLES_FILE, started_at, ended_at)
    phases = _inside(read_phases(folder / PHASES_FILE), started_at, ended_at)
    panels = panels_of(samples, hardware)
    summary = _summarize(samples, hardware, panels, phases, title, started_at, ended_at)

    from dolly_assets.profiling.charts import page_charts, picture

    span = (started_at, ended_at)
    charts = page_charts(panels, phases, samples.time_seconds, span) if panels else None
    (out / REPORT_FILE).write_text(_page(summary, hardware, samples, charts))
    (out / PICTURE_FILE).write_bytes(picture(panels, phases, samples.time_seconds, span, summary.verdict))
    _write_parquet(samples, out / PARQUET_FILE)
    (out / SUMMARY_FILE).write_text(summary.model_dump_json(indent=2) + "\n")
    return summary


def _inside(phases: Sequence[Phase], started_at: float, ended_at: float) -> list[Phase]:
    """The phases that touch the span, cut to it; one that never ended lasts to its end."""
    cut = [
        replace(
            phase,
            started_at=max(phase.started_at, started_at),
            ended_at=min(ended_at if phase.ended_at is None else phase.ended_at, ended_at),
        )
        for phase in phases
    ]
    return [phase for phase in cut if phase.ended_at is not None and phase.ended_at > phase.started_at]


# --- Numbers.


def _summarize(
    samples: Samples,
    hardware: Hardware,
    panels: Sequence[Panel],
    phases: Sequence[Phase],
    title: str,
    started_at: float,
    ended_at: float,
) -> ReportSummary:
    utilization = _gpu_readings(samples, hardware, "gpu_utilization_percent")
    cpu = samples.get("host.cpu_percent")
    main = utilization if hardware.devices else cpu[np.newaxis, :]
    return ReportSummary(
        title=title,
        verdict=verdict(samples, hardware, started_at, ended_at),
        started_at=started_at,
        ended_at=ended_at,
        duration_seconds=ended_at - started_at,
        unseen_seconds=unseen_seconds(samples.time_seconds, started_at, ended_at),
        samples_count=len(samples),
        device_kind="gpu" if hardware.devices else "cpu",
        device_names=[device.name for device in hardware.devices],
        no_device_reason=hardware.no_device_reason,
        mean_gpu_utilization_percent=_mean(utilization),
        max_gpu_utilization_percent=_max(utilization),
        peak_gpu_memory_bytes=_peak(_gpu_readings(samples, hardware, "memory_used_bytes")),
        energy_joules=energy_joules(samples, hardware),
        mean_cpu_percent=_mean(cpu),
        max_cpu_percent=_max(cpu),
        peak_process_memory_bytes=_peak(samples.get("process.memory_bytes")),
        peak_host_memory_bytes=_peak(samples.get("host.memory_used_bytes")),
        series=[_series_summary(panel, label, values) for panel in panels for label, values in panel.curves.items()],
        phases=_phase_summaries(phases, samples.time_seconds, main),
    )


def _gpu_readings(samples: Samples, hardware: Hardware, field: str) -> Series:
    """Shape (devices that gave any, samples)."""
    found = [samples.get(f"gpu.{device.index}.{field}") for device in hardware.devices]
    found = [values for values in found if len(values)]
    return np.stack(found) if found else np.empty((0, len(samples)))


def _mean(values: Series) -> float | None:
    return float(np.nanmean(values)) if values.size else None


def _max(values: Series) -> float | None:
    return float(np.nanmax(values)) if values.size else None


def _peak(values: Series) -> int | None:
    return int(np.nanmax(values)) if values.size else None


def _series_summary(panel: Panel, label: str, values: Series) -> SeriesSummary:
    p50, p95 = np.nanpercentile(values, [50, 95])
    return SeriesSummary(
        panel=panel.title,
        label=label,
        unit=panel.unit,
        mean=float(np.nanmean(values)),
        p50=float(p50),
        p95=float(p95),
        max=float(np.nanmax(values)),
    )


def _phase_summaries(phases: Sequence[Phase], time_seconds: Series, utilization: Series) -> list[PhaseSummary]:
    summaries = []
    for name in dict.fromkeys(phase.name for phase in phases):
        spans = [(phase.started_at, phase.ended_at or phase.started_at) for phase in phases if phase.name == name]
        within = np.zeros(len(time_seconds), dtype=bool)
        for start, end in spans:
            within[np.searchsorted(time_seconds, start) : np.searchsorted(time_seconds, end, side="right")] = True
        readings = utilization[:, within] if utilization.size else np.empty(0)
        summaries.append(
            PhaseSummary(
                name=name,
                span_count=len(spans),
                seconds=sum(end - start for start, end in spans),
                mean_utilization_percent=None if np.isnan(readings).all() else float(np.nanmean(readings)),
            )
        )
    return summaries


def _write_parquet(samples: Samples, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    microseconds = np.round(samples.time_seconds * 1e6).astype(np.int64)
    columns: dict[str, Any] = {"time": pa.array(microseconds, pa.timestamp("us", tz="UTC"))}
    for name, values in sorted(samples.series.items()):
        columns[name] = pa.array(values, pa.float64(), from_pandas=True)  # NaN is null: not measured
    pq.write_table(pa.table(columns), path, compression="zstd")


# --- The page.


def _page(summary: ReportSummary, hardware: Hardware, samples: Samples, charts: dict[str, Any] | None) -> str:
    sections = []
    if charts:
        drawn = "Lines are means, shades run from the lowest to the highest sample of each point. "
        kept = f"All {summary.samples_count:,} samples are in {PARQUET_FILE}."
        sections.append(f'<section><div id="charts"></div><p class="note">{drawn}{kept}</p></section>')
    if summary.phases:
        sections.append(_section("Phases", _phase_table(summary)))
    if summary.series:
        sections.append(_section("Statistics", _series_table(summary.series)))
    template = string.Template(resources.files("dolly_assets.profiling").joinpath("report_template.html").read_text())
    return template.substitute(
        title=html.escape(summary.title),
        verdict=html.escape(summary.verdict),
        facts="<br>".join(html.escape(fact) for fact in _facts(summary, hardware, samples)),
        sections="\n".join(sections),
        scripts=_scripts(charts) if charts else "",
    )


def _facts(summary: ReportSummary, hardware: Hardware, samples: Samples) -> list[str]:
    start, end = (
        datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")
        for moment in (summary.started_at, summary.ended_at)
    )
    interval = typical_interval_seconds(samples.time_seconds)
    rate = f", one each {interval:.2g} s" if interval else ""
    facts = [
        f"{start} to {end} UTC ({_duration(summary.duration_seconds)}), {summary.samples_count:,} samples{rate}",
        f"{hardware.host or 'host unknown'}: {hardware.cpu_count} CPUs{_gib(hardware.memory_total_bytes)}",
    ]
    if not hardware.devices:
        reason = f" ({hardware.no_device_reason})" if hardware.no_device_reason else ""
        facts.append(f"No NVIDIA device{reason}: this report shows CPU, memory and process.")
    alike = Counter((device.name, device.memory_total_bytes, device.missing) for device in hardware.devices)
    for (name, memory_bytes, missing), count in alike.items():
        lack = f"; not given by the driver: {', '.join(missing)}" if missing else ""
        facts.append(f"{count} × {name}{_gib(memory_bytes)}{lack}")
    return facts


def _gib(size_bytes: int | None) -> str:
    return f", {size_bytes / 2**30:.1f} GiB" if size_bytes else ""


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{heading}</h2>{body}</section>"


def _phase_table(summary: ReportSummary) -> str:
    used = "GPU utilization" if summary.device_kind == "gpu" else "CPU"
    rows = [
        [
            phase.name,
            str(phase.span_count),
            _duration(phase.seconds),
            f"{100 * phase.seconds / max(summary.duration_seconds, 1e-9):.1f} %",
            "not seen" if phase.mean_utilization_percent is None else f"{phase.mean_utilization_percent:.1f} %",
        ]
        for phase in summary.phases
    ]
    return _table(["phase", "spans", "time", "of the span", f"mean {used}"], rows)


def _series_table(series: Sequence[SeriesSummary]) -> str:
    rows = [
        [f"{each.panel}, {each.label}", each.unit]
        + [f"{value:,.2f}" for value in (each.mean, each.p50, each.p95, each.max)]
        for each in series
    ]
    return _table(["series", "unit", "mean", "p50", "p95", "max"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _scripts(charts: dict[str, Any]) -> str:
    """Vega itself and the specification, inline: the page opens without a network."""
    import vl_convert

    # In a script element only "</" and "<!--" could end or bend it; JSON may write "<" as an escape.
    specification = json.dumps(charts, separators=(",", ":")).replace("<", "\\u003c")
    options = json.dumps({"renderer": "svg", "actions": False, "tooltip": {"theme": "dark"}})
    return (
        f"<script>{vl_convert.javascript_bundle(_EXPOSE_VEGA)}</script>\n"
        f'<script>vegaEmbed("#charts", {specification}, {options});</script>'
    )
