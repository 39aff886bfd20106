"""From a span's samples, steps and phases to its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dolly_assets.profiling.analysis.cost import cost_figures
from dolly_assets.profiling.analysis.findings import find, idle_share, unseen_seconds
from dolly_assets.profiling.analysis.health import DeviceHealth
from dolly_assets.profiling.analysis.idle_spans import find_idle_spans
from dolly_assets.profiling.analysis.limits import ProfileLimits
from dolly_assets.profiling.analysis.panels import Panel, digest
from dolly_assets.profiling.analysis.step_figures import StepFigures, step_figures
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
from dolly_assets.profiling.series.phases import Phase
from dolly_assets.profiling.series.samples import Samples, Series

STALLING = ("save", "copy")  # phases in which no rank makes a step
OVERVIEW_POINTS = 240


@dataclass(frozen=True)
class Recording:
    """What a sampler, a trainer and its ranks wrote down of a span.

    Attributes:
        span: UTC epoch seconds.
        phases: With their ends known and inside the span.
        steps: Columns as in `dolly_assets.profiling.series.steplog`.
        health: Of the GPUs, in their order.
        preflight: What was measured before the model was loaded, by name; the names end in their
            units.
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
        limits: From where on something is worth a finding.
        peak_flops: Of one rank's device, in floating-point operations per second.
        attempts: Earlier ones at the same epoch, which were cut.
        cut: When and how the training ended, if it did not end well.
        refresh_seconds: How often the page is made anew, if the training still runs.
        cache_dir: Where this machine keeps what is dear to make and the same for every report.
    """

    gpu_hour_usd: float | None = None
    carbon_g_per_kwh: float | None = None
    limits: ProfileLimits = field(default_factory=ProfileLimits)
    peak_flops: float | None = None
    attempts: Sequence[Attempt] = ()
    cut: str = ""
    refresh_seconds: int | None = None
    cache_dir: Path | None = None


def summarize(
    recording: Recording, panels: Sequence[Panel], title: str, circumstances: ReportContext
) -> ReportSummary:
    """The numbers of a recording."""
    samples, hardware, span = recording.samples, recording.hardware, recording.span
    steps = step_figures(recording.steps, circumstances.peak_flops)
    checkpoints = _checkpoints(recording)
    found = find(
        samples,
        hardware,
        steps,
        span,
        checkpoints.stalled_seconds,
        recording.events,
        recording.health,
        circumstances.limits,
    )
    main = _main_curve(samples, hardware)
    energy = energy_joules(samples, hardware)
    utilization = [
        _stats(samples, name) for name in _of_gpus(samples, hardware, "gpu_utilization_percent")
    ]
    power = [_stats(samples, name)[0] for name in _of_gpus(samples, hardware, "power_watts")]
    return ReportSummary(
        title=title,
        verdict=headline(found, samples, span, circumstances.cut),
        busy=busy_sentence(samples, hardware),
        findings=found,
        cut=circumstances.cut,
        started_at=span[0],
        ended_at=span[1],
        duration_seconds=span[1] - span[0],
        unseen_seconds=unseen_seconds(samples.time_seconds, *span),
        samples_count=len(samples),
        device_kind="gpu" if hardware.devices else "cpu",
        device_names=[device.name for device in hardware.devices],
        no_device_reason=hardware.no_device_reason,
        mean_gpu_utilization_percent=float(np.mean([mean for mean, _ in utilization]))
        if utilization
        else None,
        max_gpu_utilization_percent=max((high for _, high in utilization), default=None),
        gpu_idle_percent=max(
            (
                100 * idle_share(samples.get(name))
                for name in _of_gpus(samples, hardware, "gpu_utilization_percent")
            ),
            default=None,
        ),
        peak_gpu_memory_bytes=_peak(samples, _of_gpus(samples, hardware, "memory_used_bytes")),
        mean_gpu_power_watts=sum(power) if power else None,
        max_gpu_temperature_celsius=max(
            (
                _stats(samples, name)[1]
                for name in _of_gpus(samples, hardware, "temperature_celsius")
            ),
            default=None,
        ),
        mean_cpu_percent=_stats(samples, "host.cpu_percent")[0]
        if len(samples.get("host.cpu_percent"))
        else None,
        max_cpu_percent=_stats(samples, "host.cpu_percent")[1]
        if len(samples.get("host.cpu_percent"))
        else None,
        peak_process_memory_bytes=_peak(samples, ["process.memory_bytes"]),
        peak_host_memory_bytes=_peak(samples, ["host.memory_used_bytes"]),
        steps=steps,
        cost=cost_figures(
            len(hardware.devices),
            span[1] - span[0],
            energy,
            steps.labelled_tokens if steps else None,
            circumstances.gpu_hour_usd,
            circumstances.carbon_g_per_kwh,
        ),
        checkpoints=checkpoints,
        attempts=list(circumstances.attempts),
        effective_ratio=_effective_ratio(steps, span, circumstances.attempts),
        health=list(recording.health),
        series=[
            _series_summary(panel, label, values)
            for panel in panels
            for label, values in panel.curves.items()
        ],
        phases=_phase_summaries(recording.phases, samples.time_seconds, main),
        dips=find_idle_spans(samples.time_seconds, main, recording.phases),
        overview=_overview(panels[0], samples.time_seconds) if panels else None,
    )


def _of_gpus(samples: Samples, hardware: Hardware, reading: str) -> list[str]:
    """The series of the GPUs that gave a reading."""
    names = [f"gpu.{device.index}.{reading}" for device in hardware.devices]
    return [name for name in names if len(samples.get(name))]


def _stats(samples: Samples, name: str) -> tuple[float, float]:
    """Mean and maximum."""
    values = samples.get(name)
    return float(np.nanmean(values)), float(np.nanmax(values))


def _peak(samples: Samples, names: Sequence[str]) -> int | None:
    return max(
        (int(_stats(samples, name)[1]) for name in names if len(samples.get(name))), default=None
    )


def _main_curve(samples: Samples, hardware: Hardware) -> Series:
    """What the devices did, in percent, shape (samples,): the GPUs' mean utilization, or that of the host's CPUs."""
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


def _checkpoints(recording: Recording) -> CheckpointFigures:
    def spans(*names: str) -> list[tuple[float, float]]:
        return [
            (phase.started_at, phase.ended_at or phase.started_at)
            for phase in recording.phases
            if phase.name in names
        ]

    uploads = spans("publish")
    publish_seconds = sum(end - start for start, end in uploads)
    starts, ends = (
        np.sort(recording.steps[name].to_numpy()) for name in ("started_at", "ended_at")
    )
    hidden = 0.0
    if len(starts):
        ranks = len(np.unique(recording.steps["rank"].to_numpy()))
        for start, end in uploads:
            # Each rank's steps follow each other, so the parts of steps inside the span add up to
            # its time, per rank.
            inside = np.clip(ends, start, end).sum() - np.clip(starts, start, end).sum()
            hidden += float(inside) / ranks
    return CheckpointFigures(
        stalled_seconds=sum(end - start for start, end in spans(*STALLING)),
        publish_seconds=publish_seconds,
        hidden_share=min(1.0, hidden / publish_seconds)
        if publish_seconds and len(starts)
        else None,
    )


def _effective_ratio(
    steps: StepFigures | None, span: tuple[float, float], attempts: Sequence[Attempt]
) -> float | None:
    """Time in steps that were kept, over the time of all attempts.

    Steps of a cut one count up to where we went on.
    """
    if steps is None:
        return None
    kept, total = steps.seconds, span[1] - span[0]
    for attempt in attempts:
        total += attempt.ended_at - attempt.started_at
        if attempt.first_step is None or attempt.last_step is None:
            continue
        made = attempt.last_step - attempt.first_step + 1
        went_on = max(0, min(steps.first_step - attempt.first_step, made))
        kept += attempt.step_seconds * went_on / made
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
        idle_share=idle_share(values) if panel.tells_idle else None,
    )


def _phase_summaries(
    phases: Sequence[Phase], time_seconds: Series, main: Series
) -> list[PhaseSummary]:
    summaries = []
    for name in dict.fromkeys(phase.name for phase in phases):
        spans = [
            (phase.started_at, phase.ended_at or phase.started_at)
            for phase in phases
            if phase.name == name
        ]
        within = np.zeros(len(time_seconds), dtype=bool)
        for start, end in spans:
            within[
                np.searchsorted(time_seconds, start) : np.searchsorted(
                    time_seconds, end, side="right"
                )
            ] = True
        readings = main[within] if len(main) else np.empty(0)
        summaries.append(
            PhaseSummary(
                name=name,
                span_count=len(spans),
                seconds=sum(end - start for start, end in spans),
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
