"""A report in numbers: kept beside its samples, compared with other reports, shown in Dagster.

Knows nothing of how the numbers were measured, and nothing of pages.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ProfileError
from dolly_assets.profiling.analysis.cost import CostFigures
from dolly_assets.profiling.analysis.earlier_version import upgrade_report
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
    mean: float = Field(description="Mean over the span.")
    p50: float = Field(description="Median.")
    p95: float = Field(description="95th percentile.")
    max: float = Field(description="Maximum.")
    idle_share: float | None = Field(
        default=None,
        description="Share of idle readings, 0 to 1; None where low values do not mean idle.",
    )


class PhaseSummary(Config):
    """All phases of one name."""

    name: str = Field(description="Such as 'train' or 'save'.")
    span_count: int = Field(description="How often the phase occurred.")
    seconds: float = Field(
        description="Sum of the durations; nested and parallel phases are all counted."
    )
    mean_utilization_percent: float | None = Field(
        description="Mean utilization of the GPUs meanwhile; without GPUs, of the host's CPUs."
    )


class CheckpointFigures(Config):
    """What checkpoints cost the training."""

    saving_seconds: float = Field(
        description="Time in which no rank trained, because the state was copied or written."
    )
    publish_seconds: float = Field(
        description="Time that uploads of this and earlier epochs took in the span."
    )
    hidden_share: float | None = Field(
        description="Share of the upload time during which steps were made, 0 to 1."
    )


class Attempt(Config):
    """An earlier attempt at this epoch that was interrupted: its process was killed or failed."""

    started_at: float = Field(description="UTC epoch seconds.")
    ended_at: float = Field(description="UTC epoch seconds.")
    first_step: int | None = Field(description="Number of its first step; None without a step.")
    last_step: int | None = Field(description="Number of its last step.")
    step_seconds: float = Field(description="Time that it spent in steps.")


class Overview(Config):
    """The main curve in few points, for the report over several epochs."""

    title: str = Field(description="Such as 'GPU utilization'.")
    unit: str = Field(description="Such as '%'.")
    t: list[float] = Field(description="UTC epoch seconds.")
    low: list[float | None] = Field(description="Lowest value at each point.")
    mean: list[float | None] = Field(description="Mean at each point.")
    high: list[float | None] = Field(description="Highest value at each point.")


class ReportSummary(Config):
    """The report in numbers. A number is None where nothing measured it."""

    title: str = Field(description="Heading of the report.")
    verdict: str = Field(description="One sentence that names the worst finding.")
    busy: str = Field(description="How busy the devices were, in a sentence.")
    findings: list[ProfileFinding] = Field(description="What stands out, the worst first.")
    interrupted: str = Field(
        description="When and how the training was interrupted; empty if it was not."
    )
    started_at: float = Field(description="UTC epoch seconds.")
    ended_at: float = Field(description="UTC epoch seconds.")
    duration_seconds: float = Field(description="Length of the span.")
    unseen_seconds: float = Field(description="Time of the span without samples.")
    samples_count: int = Field(description="Number of samples in the span.")
    device_kind: Literal["gpu", "cpu"] = Field(description="What the training ran on.")
    device_names: list[str] = Field(description="Names of the GPUs.")
    no_device_reason: str = Field(description="Why device_kind is cpu, else empty.")
    mean_gpu_utilization_percent: float | None = Field(description="Mean over time and GPUs.")
    gpu_idle_percent: float | None = Field(
        description="Share of idle readings of the GPU that idles most, 0 to 100."
    )
    peak_gpu_memory_bytes: int | None = Field(description="Peak of the fullest GPU.")
    mean_gpu_power_watts: float | None = Field(description="Mean power of all GPUs together.")
    max_gpu_temperature_celsius: float | None = Field(description="Highest of all GPUs.")
    mean_cpu_percent: float | None = Field(description="Mean over time and all cores of the host.")
    peak_process_memory_bytes: int | None = Field(
        description="Peak of the resident memory of all processes of the training on this machine."
    )
    steps: StepFigures | None = Field(description="The steps of the span; None without any.")
    cost: CostFigures = Field(description="Energy, money and carbon.")
    checkpoints: CheckpointFigures = Field(description="What checkpoints cost the training.")
    attempts: list[Attempt] = Field(
        description="Earlier attempts at the same epoch, the oldest first."
    )
    effective_ratio: float | None = Field(
        description="Share of the time of all attempts that was spent in steps which were kept."
    )
    health: list[DeviceHealth] = Field(description="Health of the GPUs.")
    series: list[SeriesSummary] = Field(description="Statistics of each curve.")
    phases: list[PhaseSummary] = Field(description="What the time was spent on.")
    idle_spans: list[IdleSpan] = Field(
        description="Times in which the devices did less than half of what is usual."
    )
    overview: Overview | None = Field(description="The main curve in few points.")

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, values: Any) -> Any:
        return upgrade_report(values) if isinstance(values, dict) else values

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the numbers of a report in a folder.

        Raises:
            ProfileError: The folder has none, or they were written by an unknown version.
        """
        file = folder / SUMMARY_FILE
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            what = (
                "is missing" if isinstance(error, OSError) else "was written by an unknown version"
            )
            raise ProfileError(
                f"{file} {what}: expected the numbers of a profile's report"
            ) from error

    def figures(self) -> dict[str, Any]:
        """Return what Dagster shows and plots, by name."""
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
            "saving_seconds": self.checkpoints.saving_seconds,
            "effective_training_time_percent": _percent(self.effective_ratio),
            **self.cost.model_dump(),
        }
        if self.steps:
            shown |= {
                "step_seconds": self.steps.step_seconds,
                "steps_per_second": 1 / self.steps.step_seconds,
                "tokens_per_second": self.steps.tokens_per_second,
                "tokens_per_second_while_stepping": self.steps.tokens_per_second_while_stepping,
                "training_seconds": self.steps.training_seconds,
                "mfu": self.steps.mfu,
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
