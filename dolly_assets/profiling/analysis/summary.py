"""A report in numbers: what is kept of a span beside its samples, compared with other spans, and shown in Dagster."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ProfileError
from dolly_assets.profiling.analysis.cost import CostFigures
from dolly_assets.profiling.analysis.findings import ProfileFinding
from dolly_assets.profiling.analysis.health import DeviceHealth
from dolly_assets.profiling.analysis.idle_spans import IdleSpan
from dolly_assets.profiling.analysis.step_figures import StepFigures

SUMMARY_FILE = "summary.json"


class SeriesSummary(Config):
    """The statistics of one curve over the span."""

    panel: str = Field(description="Such as 'GPU memory'.")
    label: str = Field(description="Such as 'GPU 0'.")
    unit: str = Field(description="Such as 'GiB'.")
    mean: float
    p50: float
    p95: float
    max: float
    idle_share: float | None = Field(
        default=None, description="Of the readings, where idle has a meaning; 0 to 1."
    )


class PhaseSummary(Config):
    """All spans of one name."""

    name: str
    span_count: int
    seconds: float = Field(
        description="Sum of the spans' durations; nested or parallel spans are all counted."
    )
    mean_utilization_percent: float | None = Field(
        description="Of the GPUs, without any of the host's CPUs."
    )


class CheckpointFigures(Config):
    """What checkpoints cost the training."""

    stalled_seconds: float = Field(
        description="Ranks stood still while a checkpoint was written or copied."
    )
    publish_seconds: float = Field(
        description="Uploads took, from the span's own and earlier epochs."
    )
    hidden_share: float | None = Field(
        description="Of the uploads' time, during which steps were made; 0 to 1."
    )


class Attempt(Config):
    """An earlier try at this epoch that was cut: its process was killed or failed."""

    started_at: float = Field(description="UTC epoch seconds.")
    ended_at: float = Field(description="UTC epoch seconds.")
    first_step: int | None
    last_step: int | None
    step_seconds: float = Field(description="Spent in its steps, all together.")


class Overview(Config):
    """The main curve in few points, for the report over several epochs."""

    title: str
    unit: str
    t: list[float] = Field(description="UTC epoch seconds.")
    low: list[float | None]
    mean: list[float | None]
    high: list[float | None]


class ReportSummary(Config):
    """The report in numbers. A number is None where nothing measured it."""

    title: str
    verdict: str = Field(description="One sentence that names the worst thing.")
    busy: str = Field(description="What the devices did on the whole, in a sentence.")
    findings: list[ProfileFinding]
    cut: str = Field(
        description="When and how the training ended, if it did not end well; else empty."
    )
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
    gpu_idle_percent: float | None = Field(
        description="Share of idle readings of the GPU that idles most, 0 to 100."
    )
    peak_gpu_memory_bytes: int | None = Field(description="Of the fullest GPU.")
    mean_gpu_power_watts: float | None = Field(description="Of all GPUs together.")
    max_gpu_temperature_celsius: float | None
    mean_cpu_percent: float | None = Field(description="Of the host, all cores.")
    max_cpu_percent: float | None
    peak_process_memory_bytes: int | None = Field(
        description="Sum of the watched tree's resident sizes."
    )
    peak_host_memory_bytes: int | None
    steps: StepFigures | None
    cost: CostFigures
    checkpoints: CheckpointFigures
    attempts: list[Attempt] = Field(description="Earlier ones at the same epoch, the oldest first.")
    effective_ratio: float | None = Field(
        description="Of all attempts' time, that in steps which were kept; 0 to 1."
    )
    health: list[DeviceHealth] = Field(description="Of the GPUs.")
    series: list[SeriesSummary]
    phases: list[PhaseSummary]
    dips: list[IdleSpan]
    overview: Overview | None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The numbers of a report in a folder.

        Raises:
            ProfileError: The folder has none, or they are of another version.
        """
        file = folder / SUMMARY_FILE
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            what = "is missing" if isinstance(error, OSError) else "was written by another version"
            raise ProfileError(
                f"{file} {what}: expected the numbers of a profile's report"
            ) from error

    def figures(self) -> dict[str, Any]:
        """What Dagster shows and plots: flat, by plain names."""
        shown: dict[str, Any] = {
            "verdict": self.verdict,
            "busy": self.busy,
            "findings": [f"{finding.text}. {finding.advice}" for finding in self.findings],
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "duration_seconds": self.duration_seconds,
            "samples_count": self.samples_count,
            "device_kind": self.device_kind,
            "device_names": self.device_names,
            "mean_gpu_utilization_percent": self.mean_gpu_utilization_percent,
            "gpu_idle_percent": self.gpu_idle_percent,
            "peak_gpu_memory_bytes": self.peak_gpu_memory_bytes,
            "mean_gpu_power_watts": self.mean_gpu_power_watts,
            "max_gpu_temperature_celsius": self.max_gpu_temperature_celsius,
            "mean_cpu_percent": self.mean_cpu_percent,
            "peak_process_memory_bytes": self.peak_process_memory_bytes,
            "checkpoint_stall_seconds": self.checkpoints.stalled_seconds,
            "effective_training_time_percent": _percent(self.effective_ratio),
            **self.cost.model_dump(),
        }
        if self.steps:
            shown |= {
                "step_seconds": self.steps.step_seconds,
                "steps_per_second": 1 / self.steps.step_seconds,
                "tokens_per_second": self.steps.tokens_per_second,
                "mfu_percent": _percent(self.steps.mfu),
                "labelled_tokens": self.steps.labelled_tokens,
                "prompt_tokens": self.steps.prompt_tokens,
                "padding_tokens": self.steps.padding_tokens,
                **{
                    f"{phase}_percent": _percent(share)
                    for phase, share in self.steps.shares.items()
                },
            }
        return shown


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
