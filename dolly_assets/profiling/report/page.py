"""A report as a page: one HTML file that loads nothing, in light and dark.

Knows sections of HTML and charts, not how they were computed.
"""

import functools
import html
import json
import os
import string
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.core.text import clock_time, count, date_and_time, duration, memory_size
from dolly_assets.profiling.analysis.figures import Recording, ReportContext
from dolly_assets.profiling.analysis.summary import ReportSummary
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.report import tables
from dolly_assets.profiling.series.samples import typical_interval_seconds

if TYPE_CHECKING:
    from dolly_assets.profiling.report.charts import Charts

_EXPOSE_VEGA = "window.vegaEmbed = vegaEmbed;"


def write_page(
    path: Path,
    summary: ReportSummary,
    recording: Recording,
    charts: "Charts | None",
    previous: Sequence[ReportSummary],
    context: ReportContext,
) -> None:
    """Write the page of a report; without charts, where there was nothing to draw."""
    sections = [
        tables.findings(summary),
        tables.tiles(summary),
        _charts_section(summary) if charts else "",
        tables.devices(summary),
        tables.ranks(summary),
        tables.idle_spans(summary),
        tables.phases(summary),
        tables.tokens_and_cost(summary),
        tables.checkpoints(summary),
        tables.health(summary),
        tables.topology(recording.hardware),
        tables.comparison(summary, previous),
        tables.preflight(recording.preflight),
        tables.host(summary),
        tables.sampler(recording.samples),
        tables.software(recording.hardware),
    ]
    fill(
        path,
        title=summary.title,
        state=_state(summary, context),
        verdict=summary.verdict,
        busy=summary.busy,
        facts=_facts(summary, recording),
        sections=sections,
        charts=charts,
        cache_dir=context.cache_dir,
        refresh_seconds=context.refresh_seconds,
    )


def fill(
    path: Path,
    *,
    title: str,
    state: str,
    verdict: str,
    busy: str,
    facts: Sequence[str],
    sections: Sequence[str],
    charts: "Charts | None",
    cache_dir: Path | None,
    refresh_seconds: int | None = None,
) -> None:
    """Write a page that loads nothing. Sections are HTML; everything else is text."""
    path.write_text(
        _template("report_template.html").substitute(
            title=html.escape(title),
            refresh=f'<meta http-equiv="refresh" content="{refresh_seconds}">'
            if refresh_seconds
            else "",
            state=html.escape(state),
            verdict=html.escape(verdict),
            busy=html.escape(busy),
            facts="<br>".join(html.escape(fact) for fact in facts),
            sections="\n".join(section for section in sections if section),
            scripts=_scripts(charts, cache_dir) if charts else "",
        ),
        encoding="utf-8",
    )


def _template(name: str) -> string.Template:
    return string.Template(
        resources.files("dolly_assets.profiling.report").joinpath(name).read_text(encoding="utf-8")
    )


def _state(summary: ReportSummary, context: ReportContext) -> str:
    """Return the state of a training that runs or was interrupted; else empty."""
    if context.refresh_seconds:
        moment = clock_time(summary.ended_at)
        return f"Running: state at {moment} UTC. The page refreshes itself."
    return f"Interrupted: {summary.interrupted}." if summary.interrupted else ""


def _charts_section(summary: ReportSummary) -> str:
    drawn = "Lines are means, shades run from the lowest to the highest sample of each point. "
    kept = f"All {summary.samples_count:,} samples are in samples.parquet beside this page."
    return f'<section><div id="charts"></div><p class="note">{drawn}{kept}</p></section>'


def _facts(summary: ReportSummary, recording: Recording) -> list[str]:
    hardware = recording.hardware
    start, end = date_and_time(summary.started_at), date_and_time(summary.ended_at)
    interval = typical_interval_seconds(recording.samples.time_seconds)
    rate = f", one every {duration(interval)}" if interval else ""
    limits = ""
    if hardware.container_cpu_limit or hardware.container_memory_limit_bytes:
        cpus = (
            f"{hardware.container_cpu_limit:g} CPUs" if hardware.container_cpu_limit else "all CPUs"
        )
        limits = f"; this container may use {cpus}{_memory(hardware.container_memory_limit_bytes)}"
    facts = [
        f"{start} to {end} UTC ({duration(summary.duration_seconds)}), "
        f"{count(summary.samples_count, 'sample')}{rate}",
        f"{hardware.host or 'unknown host'}: {count(hardware.cpu_count, 'CPU')}"
        f"{_memory(hardware.memory_total_bytes)}{limits}",
        *_device_facts(hardware),
    ]
    if hardware.image:
        facts.append(f"image {hardware.image}")
    return facts


def _device_facts(hardware: Hardware) -> list[str]:
    if not hardware.devices:
        reason = f" ({hardware.no_device_reason})" if hardware.no_device_reason else ""
        return [f"No NVIDIA device{reason}: this report shows CPU, memory and process."]
    alike = Counter(
        (
            device.name,
            device.memory_total_bytes,
            device.mig_mode,
            device.ecc_mode,
            tuple(device.missing.items()),
        )
        for device in hardware.devices
    )
    facts = []
    for (name, memory_bytes, mig, ecc, missing), number in alike.items():
        modes = f"{', MIG on' if mig else ''}{', ECC off' if ecc is False else ''}"
        lack = ", ".join(reading for reading, _ in missing)
        facts.append(
            f"{number} × {name}{_memory(memory_bytes)}{modes}"
            f"{f'; not measured: {lack}' if lack else ''}"
        )
    return facts


def _memory(size_bytes: int | None) -> str:
    return f", {memory_size(size_bytes)}" if size_bytes else ""


@functools.cache
def vega(cache_dir: Path | None) -> str:
    """Return Vega's own script.

    Bundling it takes two seconds, so it is kept in the folder, if one is given.
    """
    import vl_convert

    kept = cache_dir / f"vega-{version('vl-convert-python')}.js" if cache_dir else None
    if kept and kept.is_file():
        return kept.read_text(encoding="utf-8")
    script = vl_convert.javascript_bundle(_EXPOSE_VEGA)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_text(script, encoding="utf-8")
        unfinished.replace(kept)
    return script


def _scripts(charts: "Charts", cache_dir: Path | None) -> str:
    """Return Vega and what it draws, inline: the page opens without a network."""
    drawn = {"specification": charts.specification, "curves": charts.curves, "rows": charts.rows}
    # In a script element only "</" and "<!--" could end or bend it; JSON may write "<" as an
    # escape.
    text = json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c")
    script = (
        resources.files("dolly_assets.profiling.report")
        .joinpath("report_charts.js")
        .read_text(encoding="utf-8")
    )
    return f"<script>{vega(cache_dir)}</script>\n<script>const CHARTS = {text};\n{script}</script>"
