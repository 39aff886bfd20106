"""The sections of a report's page: each is HTML over its numbers, or empty without any.

Knows numbers, not how they were measured.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dolly_assets.core.text import clock_time, percent
from dolly_assets.profiling.analysis.compare import compare
from dolly_assets.profiling.analysis.cost import CostFigures
from dolly_assets.profiling.analysis.finding import ProfileFinding
from dolly_assets.profiling.analysis.health import DeviceHealth
from dolly_assets.profiling.analysis.step_figures import (
    STEP_PHASE_MEANS,
    STEP_PHASE_NAMES,
    STEP_PHASES,
)
from dolly_assets.profiling.analysis.summary import ReportSummary, SeriesSummary
from dolly_assets.profiling.analysis.units import (
    UNMEASURED,
    dollars,
    duration,
    energy,
    flops,
    grams,
    number,
    share,
    size,
)
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.series.samples import Samples, counter_increase

IN_DEVICE_TABLE = ("GPU utilization", "GPU memory", "GPU power", "GPU temperature")
MOST_RANKS = 64


def findings(summary: ReportSummary) -> str:
    """Return what stands out, and what to do about it."""
    if not summary.findings:
        return ""
    return section("What stands out", _list(summary.findings))


def findings_by_part(parts: Sequence[tuple[str, ReportSummary]]) -> str:
    """Return what stands out in each of several reports, under their names."""
    lists = [
        f"<h3>{_capital(name)}</h3>{_list(part.findings)}" for name, part in parts if part.findings
    ]
    return section("What stands out", "".join(lists)) if lists else ""


def _list(found: Sequence[ProfileFinding]) -> str:
    items = (
        f"<li>{_capital(finding.text)}.<small>{html.escape(finding.advice)}</small></li>"
        for finding in found
    )
    return f'<ul class="findings">{"".join(items)}</ul>'


def tiles(summary: ReportSummary) -> str:
    """Return the figures that users ask for first."""
    steps, cost = summary.steps, summary.cost
    busy = (
        summary.mean_gpu_utilization_percent
        if summary.device_kind == "gpu"
        else summary.mean_cpu_percent
    )
    devices = "GPUs" if summary.device_kind == "gpu" else "CPUs"
    shown = [(f"{devices} busy", share(None if busy is None else busy / 100))]
    if steps:
        shown += [
            ("tokens per second", number(steps.tokens_per_second)),
            ("MFU", share(steps.mfu)),
            ("model FLOP/s", flops(steps.flops_per_second)),
            ("mean step", duration(steps.step_seconds)),
            ("effective training time", share(summary.effective_ratio)),
        ]
    shown += [
        ("GPU-hours", number(cost.gpu_hours)),
        ("energy of the GPUs", energy(cost.energy_joules)),
        ("cost", dollars(cost.usd)),
        ("CO₂ of the GPUs", grams(cost.co2_grams)),
    ]
    return tiles_of(shown)


def tiles_of(shown: Sequence[tuple[str, str]]) -> str:
    """Return figures by name, in large type."""
    cells = "".join(
        f'<div class="tile{" unmeasured" if value == UNMEASURED else ""}">'
        f"<strong>{html.escape(value)}</strong><span>{label}</span></div>"
        for label, value in shown
    )
    return f'<section><div class="tiles">{cells}</div></section>'


def devices(summary: ReportSummary) -> str:
    """Return mean, median, 95th percentile, maximum and idle share of each GPU."""
    series = {(each.panel, each.label): each for each in summary.series}
    panels = [panel for panel in IN_DEVICE_TABLE if any(of == panel for of, _ in series)]
    labels = list(dict.fromkeys(label for panel, label in series if panel in panels))
    if not labels:
        return ""
    rows = []
    for label in labels:
        utilization = series.get(("GPU utilization", label))
        spreads = [_spread(series.get((panel, label))) for panel in panels]
        rows.append([label, *spreads, share(utilization.idle_share if utilization else None)])
    heads = [f"{panel}, {_unit(summary, panel)}" for panel in panels]
    note = '<p class="note">Each cell: mean / median / 95th percentile / maximum.</p>'
    return section("Devices", table(["device", *heads, "idle"], rows) + note)


def _spread(each: SeriesSummary | None) -> str:
    return (
        UNMEASURED
        if each is None
        else " / ".join(f"{v:,.0f}" for v in (each.mean, each.p50, each.p95, each.max))
    )


def _unit(summary: ReportSummary, panel: str) -> str:
    return next((each.unit for each in summary.series if each.panel == panel), "")


def ranks(summary: ReportSummary) -> str:
    """Return how long steps took on each rank, and their phases."""
    steps = summary.steps
    if steps is None:
        return ""
    heads = [
        "rank",
        "steps",
        "mean step",
        "p95",
        *(STEP_PHASE_NAMES[phase] for phase in STEP_PHASES),
        "peak memory",
    ]
    rows = [
        [
            f"rank {rank.rank}",
            f"{rank.steps:,}",
            duration(rank.step_seconds),
            duration(rank.p95_seconds),
            *(
                f"{duration(rank.seconds[phase])} ({percent(rank.share(phase))})"
                for phase in STEP_PHASES
            ),
            size(rank.peak_rank_memory_bytes),
        ]
        for rank in sorted(steps.ranks, key=lambda rank: -rank.own_seconds)[:MOST_RANKS]
    ]
    means = "; ".join(
        f"{STEP_PHASE_NAMES[phase]}: {STEP_PHASE_MEANS[phase]}" for phase in STEP_PHASES
    )
    note = "The rank with the most work of its own comes first. "
    note += f"{means[0].upper()}{means[1:]}. "
    note += "Communication is not measured separately: it is part of backward and optimizer."
    return section("Steps by rank", table(heads, rows) + f'<p class="note">{html.escape(note)}</p>')


def idle_spans(summary: ReportSummary) -> str:
    """Return when the devices did less than half of what is usual, and what ran meanwhile."""
    if not summary.idle_spans:
        return ""
    rows = [
        [
            clock_time(span.started_at),
            duration(span.seconds),
            f"{span.mean_percent:.0f} %",
            span.phase,
        ]
        for span in summary.idle_spans
    ]
    return section(
        "Idle spans", table(["start (UTC)", "duration", "mean utilization", "phases"], rows)
    )


def phases(summary: ReportSummary) -> str:
    """Return what the time of the span was spent on."""
    used = "GPU utilization" if summary.device_kind == "gpu" else "CPU"
    rows = [
        [
            phase.name,
            str(phase.span_count),
            duration(phase.seconds),
            share(phase.seconds / max(summary.duration_seconds, 1e-9)),
            UNMEASURED
            if phase.mean_utilization_percent is None
            else f"{phase.mean_utilization_percent:.1f} %",
        ]
        for phase in summary.phases
    ]
    steps = summary.steps
    if steps:
        rows += [
            [
                f"{STEP_PHASE_NAMES[name]} (in steps)",
                f"{steps.steps:,}",
                duration(part * steps.seconds),
                share(part * steps.seconds / max(summary.duration_seconds, 1e-9)),
                "–",
            ]
            for name, part in steps.shares.items()
        ]
    return (
        section(
            "Phases", table(["phase", "count", "time", "share of the span", f"mean {used}"], rows)
        )
        if rows
        else ""
    )


def tokens_and_cost(summary: ReportSummary) -> str:
    """Return tokens by kind, and the cost of a million labelled ones."""
    steps = summary.steps
    if steps is None:
        return ""
    return tokens_table(
        steps.labelled_tokens, steps.prompt_tokens, steps.padding_tokens, summary.cost
    )


def tokens_table(labelled: int, prompt: int, padding: int, cost: CostFigures) -> str:
    """Return counts of tokens by kind, and what they cost."""
    total = max(1, labelled + prompt + padding)
    rows = [
        [f"{kind} tokens", f"{count:,}", share(count / total)]
        for kind, count in (("labelled", labelled), ("prompt", prompt), ("padding", padding))
    ]
    per_million = [
        ["energy per million labelled tokens", energy(cost.joules_per_million_labelled), ""],
        ["cost per million labelled tokens", dollars(cost.usd_per_million_labelled), ""],
        ["CO₂ per million labelled tokens", grams(cost.co2_grams_per_million_labelled), ""],
    ]
    return section("Tokens and their cost", table(["", "", "share"], rows + per_million))


def checkpoints(summary: ReportSummary) -> str:
    """Return what checkpoints and interrupted attempts cost."""
    figures = summary.checkpoints
    if summary.steps is None and not summary.attempts:
        return ""
    rows = [
        ["training stalled by saving", duration(figures.saving_seconds)],
        ["time spent on uploads", duration(figures.publish_seconds)],
        ["share of it hidden behind steps", share(figures.hidden_share)],
        ["effective training time", share(summary.effective_ratio)],
    ]
    rows += [
        [
            f"attempt {place} was interrupted after",
            duration(attempt.ended_at - attempt.started_at)
            + (
                ", before a step" if attempt.last_step is None else f", at step {attempt.last_step}"
            ),
        ]
        for place, attempt in enumerate(summary.attempts, 1)
    ]
    note = "Effective training time: the share of the time of all attempts at this epoch that was "
    note += "spent in steps which were kept."
    return section(
        "Checkpoints and attempts", table(["", ""], rows) + f'<p class="note">{note}</p>'
    )


def health(summary: ReportSummary) -> str:
    """Return error counts, what throttled the clocks, and what the driver reported."""
    return health_table(summary.health)


def health_table(states: Sequence[DeviceHealth]) -> str:
    """Return the same of given states."""
    if not states:
        return ""
    rows = []
    for state in states:
        known = bool(state.before)
        grown = ", ".join(f"{_words(name)} +{count}" for name, count in state.grown.items())
        had = ", ".join(f"{_words(name)} {count}" for name, count in state.before.items() if count)
        slowed = ", ".join(f"{word} {share(part)}" for word, part in state.slowed.items())
        events = "; ".join(dict.fromkeys(state.reports))
        cells = [
            had or "no errors" if known else UNMEASURED,
            grown or "nothing" if known else UNMEASURED,
        ]
        rows.append([f"GPU {state.gpu}", *cells, slowed or "no", events or "–"])
    return section(
        "Health",
        table(["device", "errors before", "new errors", "throttled", "events"], rows, kind="words"),
    )


def _words(name: str) -> str:
    return name.replace("_", " ").removesuffix(" count")


def topology(hardware: Hardware) -> str:
    """Return how the GPUs are connected."""
    if not hardware.links:
        return ""
    indices = [device.index for device in hardware.devices]
    links = {frozenset((link.first, link.second)): link for link in hardware.links}

    def cell(one: int, other: int) -> str:
        link = links.get(frozenset((one, other)))
        if one == other:
            return "·"
        if link is None:
            return "?"
        return f"NV{link.nvlink_count}" if link.nvlink_count else link.level or "?"

    rows = [[f"GPU {one}", *(cell(one, other) for other in indices)] for one in indices]
    nodes = {
        device.index: ", ".join(map(str, device.numa_nodes))
        for device in hardware.devices
        if device.numa_nodes
    }
    near = "; ".join(f"GPU {index}: NUMA {text}" for index, text in nodes.items())
    note = "NV12: 12 NVLinks. PIX: one PCIe switch, PXB: several, PHB: a CPU's PCIe bridge, "
    note += f"NODE: a NUMA node, SYS: across sockets. {near}"
    return section(
        "Topology",
        table(["", *(f"GPU {index}" for index in indices)], rows, kind="matrix")
        + f'<p class="note">{html.escape(note)}</p>',
    )


def preflight(measured: Mapping[str, Any]) -> str:
    """Return what was measured before the model was loaded."""
    rows = [
        [name.replace("_", " "), _with_unit(name, value)]
        for name, value in measured.items()
        if value is not None
    ]
    return section("Preflight", table(["", ""], rows)) if rows else ""


def _with_unit(name: str, value: Any) -> str:
    if name.endswith("_bytes_per_second"):
        return f"{size(value)}/s"
    if name.endswith("_bytes"):
        return size(value)
    if name.endswith("seconds"):
        return duration(value) if value >= 0 else f"-{duration(-value)}"
    return flops(value) if name.endswith("_flops") else str(value)


def sampler(samples: Samples) -> str:
    """Return what sampling itself took."""
    seconds, memory = samples.get("sampler.cpu_seconds"), samples.get("sampler.memory_bytes")
    if len(seconds) < 2:
        return ""
    took = counter_increase(seconds)
    lasted = float(samples.time_seconds[-1] - samples.time_seconds[0])
    rows = [["CPU time", f"{duration(took)}, {share(took / lasted)} of one core"]]
    if len(memory):
        rows.append(["peak memory", size(float(np.nanmax(memory)))])
    return section("Sampler overhead", table(["", ""], rows))


def comparison(summary: ReportSummary, previous: Sequence[ReportSummary]) -> str:
    """Return what changed since other reports."""
    parts = []
    for other in previous:
        rows = [[line.name, line.before, line.now, line.change] for line in compare(other, summary)]
        parts.append(
            section(
                f"Compared with {html.escape(other.title)}",
                table(["", "before", "now", "change"], rows),
            )
        )
    return "\n".join(parts)


def host(summary: ReportSummary) -> str:
    """Return the statistics of all curves that are not in the device table."""
    rows = [
        [
            f"{each.panel}, {each.label}",
            each.unit,
            *(f"{v:,.2f}" for v in (each.mean, each.p50, each.p95, each.max)),
        ]
        for each in summary.series
        if each.panel not in IN_DEVICE_TABLE
    ]
    return (
        section("Other curves", table(["curve", "unit", "mean", "p50", "p95", "max"], rows))
        if rows
        else ""
    )


def software(hardware: Hardware) -> str:
    """Return driver and package versions."""
    versions: Mapping[str, str] = {
        "NVIDIA driver": hardware.driver_version,
        "CUDA supported by the driver": hardware.cuda_driver_version,
        **hardware.versions,
    }
    known = [[name, version] for name, version in versions.items() if version]
    return section("Software", table(["", ""], known, kind="matrix")) if known else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Return rows of text as a table; its cells are escaped."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header) if any(header) else ""
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    of_kind = f' class="{kind}"' if kind else ""
    return f"<table{of_kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def section(heading: str, body: str) -> str:
    """Return a card of the page; heading and body are HTML."""
    return f"<section><h2>{heading}</h2>{body}</section>"


def _capital(text: str) -> str:
    return html.escape(f"{text[0].upper()}{text[1:]}")
