"""A report as a page: one HTML file that loads nothing, in light and dark."""

import functools
import html
import json
import string
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.profiling import tables
from dolly_assets.profiling.devices import Hardware
from dolly_assets.profiling.figures import Recording
from dolly_assets.profiling.samples import typical_interval_seconds
from dolly_assets.profiling.summary import ReportSummary
from dolly_assets.profiling.units import duration

if TYPE_CHECKING:
    from dolly_assets.profiling.charts import Charts

_EXPOSE_VEGA = "window.vegaEmbed = vegaEmbed;"


def write_page(
    path: Path,
    summary: ReportSummary,
    recording: Recording,
    charts: "Charts | None",
    previous: Sequence[ReportSummary],
) -> None:
    """Writes the page of a report; without charts, where there was nothing to draw."""
    sections = [
        tables.findings(summary),
        tables.tiles(summary),
        _charts_section(summary) if charts else "",
        tables.devices(summary),
        tables.ranks(summary),
        tables.dips(summary),
        tables.phases(summary),
        tables.tokens_and_cost(summary),
        tables.checkpoints(summary),
        tables.health(summary),
        tables.comparison(summary, previous),
        tables.host(summary),
    ]
    path.write_text(
        _template("report_template.html").substitute(
            title=html.escape(summary.title),
            refresh="",
            verdict=html.escape(summary.verdict),
            busy=html.escape(summary.busy),
            facts="<br>".join(html.escape(fact) for fact in _facts(summary, recording)),
            sections="\n".join(section for section in sections if section),
            scripts=_scripts(charts) if charts else "",
        ),
        encoding="utf-8",
    )


def _template(name: str) -> string.Template:
    return string.Template(resources.files("dolly_assets.profiling").joinpath(name).read_text(encoding="utf-8"))


def _charts_section(summary: ReportSummary) -> str:
    drawn = "Lines are means, shades run from the lowest to the highest sample of each point. "
    kept = f"All {summary.samples_count:,} samples are in samples.parquet beside this page."
    return f'<section><div id="charts"></div><p class="note">{drawn}{kept}</p></section>'


def _facts(summary: ReportSummary, recording: Recording) -> list[str]:
    hardware = recording.hardware
    start, end = (
        datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")
        for moment in (summary.started_at, summary.ended_at)
    )
    interval = typical_interval_seconds(recording.samples.time_seconds)
    rate = f", one each {interval:.2g} s" if interval else ""
    return [
        f"{start} to {end} UTC ({duration(summary.duration_seconds)}), {summary.samples_count:,} samples{rate}",
        f"{hardware.host or 'host unknown'}: {hardware.cpu_count} CPUs{_gib(hardware.memory_total_bytes)}",
        *_device_facts(hardware),
    ]


def _device_facts(hardware: Hardware) -> list[str]:
    if not hardware.devices:
        reason = f" ({hardware.no_device_reason})" if hardware.no_device_reason else ""
        return [f"No NVIDIA device{reason}: this report shows CPU, memory and process."]
    alike = Counter((device.name, device.memory_total_bytes, tuple(device.missing)) for device in hardware.devices)
    facts = []
    for (name, memory_bytes, missing), count in alike.items():
        lack = f"; not measured: {', '.join(missing)}" if missing else ""
        facts.append(f"{count} × {name}{_gib(memory_bytes)}{lack}")
    return facts


def _gib(size_bytes: int | None) -> str:
    return f", {size_bytes / 2**30:.1f} GiB" if size_bytes else ""


@functools.cache
def _vega() -> str:
    """Vega's own script; bundling it takes two seconds."""
    import vl_convert

    return vl_convert.javascript_bundle(_EXPOSE_VEGA)


def _scripts(charts: "Charts") -> str:
    """Vega itself and what it draws, inline: the page opens without a network."""
    drawn = {"specification": charts.specification, "curves": charts.curves, "rows": charts.rows}
    # In a script element only "</" and "<!--" could end or bend it; JSON may write "<" as an escape.
    text = json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c")
    script = resources.files("dolly_assets.profiling").joinpath("report_charts.js").read_text(encoding="utf-8")
    return f"<script>{_vega()}</script>\n<script>const CHARTS = {text};\n{script}</script>"
