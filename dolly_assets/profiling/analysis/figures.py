"""From the samples, steps and phases of a span to the numbers of its report.

Knows nothing of files and pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dolly_assets.profiling.analysis.cost import cost_figures
from dolly_assets.profiling.analysis.finding import ProfileLimits
from dolly_assets.profiling.analysis.findings import find, idle_share, unseen_seconds
from dolly_assets.profiling.analysis.health import DeviceHealth
from dolly_assets.profiling.analysis.idle_spans import find_idle_spans
from dolly_assets.profiling.analysis.panels import Panel, digest
from dolly_assets.profiling.analysis.step_figures import (
    EpochTotals,
    StepFigures,
    step_figures,
)
from dolly_assets.profiling.analysis.summary import (
    Attempt,
    CheckpointFigures,
    Overview,
    PhaseSummary,
    ReportSummary,
    SeriesSummary,
)
from dolly_assets.profiling.analysis.verdict import busy_sentence, energy_joules, headline
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.record.events import Event
from dolly_assets.profiling.series.phases import Phase, seconds_of
from dolly_assets.profiling.series.samples import Samples, Series

OVERVIEW_POINTS = 240


@dataclass(frozen=True)
class Recording:
    """What a sampler, a trainer and its ranks recorded of a span.

    Attributes:
        hardware: What the samples were taken of.
        samples: Of the span.
        phases: What the trainer marked, clipped to the span.
        steps: With the columns of `steplog.RANK_STEP_SCHEMA`.
        events: What the driver and the sampler reported.
        health: Of the GPUs, in their order.
        preflight: What was measured before the model was loaded, by name; the names end in their
            units.
        span: Start and end, in UTC epoch seconds.
    """

    hardware: Hardware
    samples: Samples
    phases: Sequence[Phase]
    steps: pa.Table
    events: Sequence[Event]
    health: Sequence[DeviceHealth]
    preflight: Mapping[str, Any]
    span: tuple[float, float]


@dataclass(frozen=True)
class ReportContext:
    """What only the caller knows.

    Attributes:
        gpu_hour_usd: US dollars for an hour of one GPU, where it ran.
        carbon_g_per_kwh: Grams of CO2 per kilowatt-hour, where it ran.
        limits: From where on something is a finding.
        peak_flops: Of one rank's device, in floating-point operations per second.
        totals: What the training itself counted of the epoch, if it has finished it.
        attempts: Earlier attempts at the same epoch, which were interrupted.
        interrupted: When and how the training was interrupted; empty if it was not.
        refresh_seconds: How often the page is rebuilt, if the training still runs.
        cache_dir: Where this machine keeps what is expensive to build and the same for every
            report.
    """

    gpu_hour_usd: float | None = None
    carbon_g_per_kwh: float | None = None
    limits: ProfileLimits = field(default_factory=ProfileLimits)
    peak_flops: float | None = None
    totals: EpochTotals | None = None
    attempts: Sequence[Attempt] = ()
    interrupted: str = ""
    refresh_seconds: int | None = None
    cache_dir: Path | None = None


def summarize(
    recording: Recording, panels: Sequence[Panel], title: str, context: ReportContext
) -> ReportSummary:
    """Return the numbers of a recording.

    Args:
        recording: What was recorded of the span.
        panels: What the report shows; the first is the main curve.
        title: Heading of the report.
        context: What only the caller knows.
    """
    samples, hardware, span = recording.samples, recording.hardware, recording.span
    steps = step_figures(recording.steps, recording.phases, context.peak_flops, context.totals)
    checkpoints = _checkpoints(recording, context.totals)
    found = find(
        samples,
        hardware,
        steps,
        span,
        seconds_of(recording.phases, "save"),
        recording.events,
        recording.health,
        context.limits,
    )
    main = _main_curve(samples, hardware)
    energy = energy_joules(samples, hardware)
    utilization = _means(samples, _of_gpus(samples, hardware, "gpu_utilization_percent"))
    power = _means(samples, _of_gpus(samples, hardware, "power_watts"))
    cpu = _means(samples, ["host.cpu_percent"])
    return ReportSummary(
        title=title,
        verdict=headline(found, samples, span, context.interrupted),
        busy=busy_sentence(samples, hardware),
        findings=found,
        interrupted=context.interrupted,
        started_at=span[0],
        ended_at=span[1],
        duration_seconds=span[1] - span[0],
        unseen_seconds=unseen_seconds(samples.time_seconds, *span),
        samples_count=len(samples),
        device_kind="gpu" if hardware.devices else "cpu",
        device_names=[device.name for device in hardware.devices],
        no_device_reason=hardware.no_device_reason,
        mean_gpu_utilization_percent=float(np.mean(utilization)) if utilization else None,
        gpu_idle_percent=max(
            (
                100 * idle_share(samples.get(name))
                for name in _of_gpus(samples, hardware, "gpu_utilization_percent")
            ),
            default=None,
        ),
        peak_gpu_memory_bytes=_peak(samples, _of_gpus(samples, hardware, "memory_used_bytes")),
        mean_gpu_power_watts=sum(power) if power else None,
        max_gpu_temperature_celsius=_peak(
            samples, _of_gpus(samples, hardware, "temperature_celsius")
        ),
        mean_cpu_percent=cpu[0] if cpu else None,
        peak_process_memory_bytes=_peak(samples, ["process.memory_bytes"]),
        steps=steps,
        cost=cost_figures(
            len(hardware.devices),
            span[1] - span[0],
            energy,
            steps.labelled_tokens if steps else None,
            context.gpu_hour_usd,
            context.carbon_g_per_kwh,
        ),
        checkpoints=checkpoints,
        attempts=list(context.attempts),
        effective_ratio=_effective_ratio(steps, span, context.attempts),
        health=list(recording.health),
        series=[
            _series_summary(panel, label, values)
            for panel in panels
            for label, values in panel.curves.items()
        ],
        phases=_phase_summaries(recording.phases, samples.time_seconds, main),
        idle_spans=find_idle_spans(samples.time_seconds, main, recording.phases),
        overview=_overview(panels[0], samples.time_seconds) if panels else None,
    )


def _of_gpus(samples: Samples, hardware: Hardware, reading: str) -> list[str]:
    """Return the names of the series of the GPUs that gave a reading."""
    names = [f"gpu.{device.index}.{reading}" for device in hardware.devices]
    return [name for name in names if len(samples.get(name))]


def _means(samples: Samples, names: Sequence[str]) -> list[float]:
    """Return the mean of each series that has readings."""
    return [float(np.nanmean(values)) for name in names if len(values := samples.get(name))]


def _peak(samples: Samples, names: Sequence[str]) -> int | None:
    """Return the highest reading of several series; None without any."""
    peaks = [int(np.nanmax(values)) for name in names if len(values := samples.get(name))]
    return max(peaks, default=None)


def _main_curve(samples: Samples, hardware: Hardware) -> Series:
    """Return the utilization over time, in percent, shape (samples,).

    It is the mean of the GPUs, or without GPUs that of the host's CPUs.
    """
    names = (
        _of_gpus(samples, hardware, "gpu_utilization_percent")
        if hardware.devices
        else ["host.cpu_percent"]
    )
    total, count = np.zeros(len(samples)), np.zeros(len(samples))
    for name in names:
        values = samples.get(name)
        if len(values):
            total += np.nan_to_num(values)
            count += ~np.isnan(values)
    return np.divide(total, count, out=np.full(len(samples), np.nan), where=count > 0)


def _checkpoints(recording: Recording, totals: EpochTotals | None) -> CheckpointFigures:
    uploads = [phase for phase in recording.phases if phase.name == "publish"]
    publish_seconds = seconds_of(uploads, "publish")
    saving_seconds = totals.saving_seconds if totals else seconds_of(recording.phases, "save")
    starts, ends = (
        np.sort(recording.steps[name].to_numpy()) for name in ("started_at", "ended_at")
    )
    hidden = 0.0
    if len(starts):
        ranks = len(np.unique(recording.steps["rank"].to_numpy()))
        for start, end in ((upload.started_at, upload.ended_at) for upload in uploads):
            # Each rank's steps follow each other, so the parts of steps inside the span add up to
            # its time, per rank.
            inside = np.clip(ends, start, end).sum() - np.clip(starts, start, end).sum()
            hidden += float(inside) / ranks
    return CheckpointFigures(
        saving_seconds=saving_seconds,
        publish_seconds=publish_seconds,
        hidden_share=min(1.0, hidden / publish_seconds)
        if publish_seconds and len(starts)
        else None,
    )


def _effective_ratio(
    steps: StepFigures | None, span: tuple[float, float], attempts: Sequence[Attempt]
) -> float | None:
    """Return the time in steps that were kept, over the time of all attempts.

    The steps of an interrupted attempt count up to where the next one resumed.
    """
    if steps is None:
        return None
    kept, total = steps.seconds, span[1] - span[0]
    for attempt in attempts:
        total += attempt.ended_at - attempt.started_at
        if attempt.first_step is None or attempt.last_step is None:
            continue
        made = attempt.last_step - attempt.first_step + 1
        resumed_after = max(0, min(steps.first_step - attempt.first_step, made))
        kept += attempt.step_seconds * resumed_after / made
    return kept / total if total else None


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
        idle_share=idle_share(values) if panel.shows_idle else None,
    )


def _phase_summaries(
    phases: Sequence[Phase], time_seconds: Series, main: Series
) -> list[PhaseSummary]:
    summaries = []
    for name in dict.fromkeys(phase.name for phase in phases):
        named = [phase for phase in phases if phase.name == name]
        within = np.zeros(len(time_seconds), dtype=bool)
        for phase in named:
            first = np.searchsorted(time_seconds, phase.started_at)
            last = np.searchsorted(time_seconds, phase.ended_at, side="right")
            within[first:last] = True
        readings = main[within] if len(main) else np.empty(0)
        summaries.append(
            PhaseSummary(
                name=name,
                span_count=len(named),
                seconds=seconds_of(named, name),
                mean_utilization_percent=None
                if np.isnan(readings).all()
                else float(np.nanmean(readings)),
            )
        )
    return summaries


def _overview(panel: Panel, time_seconds: Series) -> Overview:
    thinned = digest(panel, time_seconds, OVERVIEW_POINTS)

    def numbers(values: Series) -> list[float | None]:
        return [None if np.isnan(value) else round(float(value), 2) for value in values]

    return Overview(
        title=panel.title,
        unit=panel.unit,
        t=[round(float(time), 2) for time in thinned.time_seconds],
        low=numbers(thinned.low),
        mean=numbers(thinned.mean),
        high=numbers(thinned.high),
    )
