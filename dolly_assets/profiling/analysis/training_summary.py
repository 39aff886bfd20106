"""A whole training in numbers: the reports of its epochs and of interrupted attempts together.

Knows the numbers of those reports, not their samples.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from dolly_assets.core.base import Config
from dolly_assets.core.text import count
from dolly_assets.profiling.analysis import units
from dolly_assets.profiling.analysis.compare import Line, line_of
from dolly_assets.profiling.analysis.cost import CostFigures, total_cost
from dolly_assets.profiling.analysis.earlier_version import upgrade_training
from dolly_assets.profiling.analysis.health import DeviceHealth
from dolly_assets.profiling.analysis.step_figures import STEP_PHASES, StepFigures
from dolly_assets.profiling.analysis.summary import ReportSummary


@dataclass(frozen=True)
class Part:
    """The report of an epoch, or of an interrupted attempt at one.

    Attributes:
        epoch: Number of the epoch.
        summary: The numbers of the report.
        link: Where the report opens, or empty.
    """

    epoch: int
    summary: ReportSummary
    link: str = ""

    @property
    def name(self) -> str:
        """Such as `epoch 2` or `epoch 2, interrupted`."""
        return f"epoch {self.epoch}{', interrupted' if self.summary.interrupted else ''}"


class TrainingSummary(Config):
    """A training in numbers. A number is None where it was not measured of each part."""

    title: str = Field(description="Heading of the report.")
    verdict: str = Field(
        description="One sentence that names the worst finding, and in which epoch it was."
    )
    busy: str = Field(description="What the training took, in a sentence.")
    epochs: int = Field(description="Number of epochs that were finished.")
    interrupted_attempts: int = Field(description="Number of attempts that were interrupted.")
    started_at: float = Field(description="UTC epoch seconds.")
    ended_at: float = Field(description="UTC epoch seconds.")
    duration_seconds: float = Field(
        description="Time of all parts, interrupted ones included; without pauses between them."
    )
    steps: int = Field(description="Number of steps of the finished epochs.")
    step_seconds: float | None = Field(description="Mean duration of a step.")
    tokens_per_second: float | None = Field(
        description="Tokens of examples, without padding, per second of training time."
    )
    tokens_per_second_while_stepping: float | None = Field(
        description="The same per second spent in steps."
    )
    mfu: float | None = Field(description="Model FLOPs utilization, over training time.")
    shares: dict[str, float] = Field(description="Share of the ranks' step time by phase, 0 to 1.")
    labelled_tokens: int = Field(description="Tokens that the loss counts.")
    prompt_tokens: int = Field(description="Tokens that are trained on without a label.")
    padding_tokens: int = Field(description="Tokens that only fill batches.")
    peak_gpu_memory_bytes: int | None = Field(description="Peak of the fullest GPU.")
    peak_process_memory_bytes: int | None = Field(
        description="Peak of the resident memory of all processes of the training on a machine."
    )
    saving_seconds: float = Field(
        description="Time in which no rank trained, because the state was copied or written."
    )
    publish_seconds: float = Field(description="Time that uploads took.")
    effective_ratio: float | None = Field(
        description="Share of the time of all attempts that was spent in steps which were kept."
    )
    cost: CostFigures = Field(
        description="Cost of all parts; per million labelled tokens of the finished epochs."
    )
    health: list[DeviceHealth] = Field(
        description="Health of the GPUs: before the first part, and after the last."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, values: Any) -> Any:
        return upgrade_training(values) if isinstance(values, dict) else values

    def figures(self) -> dict[str, Any]:
        """Return what Dagster shows and plots, by name."""
        shown = self.model_dump(exclude={"title", "effective_ratio", "shares", "cost", "health"})
        percents = {"effective_training_time": self.effective_ratio, **self.shares}
        shown |= {
            f"{name}_percent": None if part is None else 100 * part
            for name, part in percents.items()
        }
        return shown | self.cost.model_dump()


def summarize_training(title: str, parts: Sequence[Part]) -> TrainingSummary:
    """Return the numbers of a training.

    Args:
        title: Heading of the report.
        parts: In order of time; at least one.
    """
    whole = [part.summary for part in parts if not part.summary.interrupted]
    everything = [part.summary for part in parts]
    stepped = [summary.steps for summary in whole if summary.steps]
    labelled = sum(steps.labelled_tokens for steps in stepped)
    cost = total_cost([summary.cost for summary in everything], labelled)
    duration_seconds = sum(summary.duration_seconds for summary in everything)
    interrupted_attempts = len(everything) - len(whole)
    return TrainingSummary(
        title=title,
        verdict=_verdict(parts),
        busy=_busy(len(whole), interrupted_attempts, duration_seconds, cost),
        epochs=len(whole),
        interrupted_attempts=interrupted_attempts,
        started_at=everything[0].started_at,
        ended_at=everything[-1].ended_at,
        duration_seconds=duration_seconds,
        steps=sum(steps.steps for steps in stepped),
        step_seconds=_mean(stepped, lambda steps: steps.step_seconds, lambda steps: steps.steps),
        tokens_per_second=_mean(
            stepped, lambda steps: steps.tokens_per_second, lambda steps: steps.training_seconds
        ),
        tokens_per_second_while_stepping=_mean(
            stepped, lambda steps: steps.tokens_per_second_while_stepping
        ),
        mfu=_mean(stepped, lambda steps: steps.mfu, lambda steps: steps.training_seconds),
        shares={phase: _mean(stepped, _share_of(phase)) or 0.0 for phase in STEP_PHASES}
        if stepped
        else {},
        labelled_tokens=labelled,
        prompt_tokens=sum(steps.prompt_tokens for steps in stepped),
        padding_tokens=sum(steps.padding_tokens for steps in stepped),
        peak_gpu_memory_bytes=_highest(summary.peak_gpu_memory_bytes for summary in everything),
        peak_process_memory_bytes=_highest(
            summary.peak_process_memory_bytes for summary in everything
        ),
        saving_seconds=sum(summary.checkpoints.saving_seconds for summary in everything),
        publish_seconds=sum(summary.checkpoints.publish_seconds for summary in everything),
        effective_ratio=_effective_ratio(whole, duration_seconds),
        cost=cost,
        health=_health(everything),
    )


def training_figures(training: TrainingSummary) -> list[tuple[str, str]]:
    """Return the figures of a training by name, in words."""
    return [(name, words(read(training))) for name, read, words in _FIGURES]


def compare_trainings(before: TrainingSummary, now: TrainingSummary) -> list[Line]:
    """Return the figures that at least one of two trainings has."""
    lines = (line_of(name, read(before), read(now), words) for name, read, words in _FIGURES)
    return [line for line in lines if line]


_FIGURES: tuple[tuple[str, Callable[[TrainingSummary], float | None], units.Words], ...] = (
    ("time of all attempts", lambda training: training.duration_seconds, units.duration),
    ("epochs", lambda training: training.epochs, units.number),
    ("tokens per second", lambda training: training.tokens_per_second, units.number),
    (
        "tokens per second while stepping",
        lambda training: training.tokens_per_second_while_stepping,
        units.number,
    ),
    ("MFU", lambda training: training.mfu, units.share),
    ("mean step", lambda training: training.step_seconds, units.duration),
    ("peak GPU memory", lambda training: training.peak_gpu_memory_bytes, units.size),
    ("GPU-hours", lambda training: training.cost.gpu_hours, units.number),
    ("energy of the GPUs", lambda training: training.cost.energy_joules, units.energy),
    ("cost", lambda training: training.cost.usd, units.dollars),
    ("CO₂ of the GPUs", lambda training: training.cost.co2_grams, units.grams),
    (
        "cost per million labelled tokens",
        lambda training: training.cost.usd_per_million_labelled,
        units.dollars,
    ),
    ("stalled by saving", lambda training: training.saving_seconds, units.duration),
    ("effective training time", lambda training: training.effective_ratio, units.share),
)


def _verdict(parts: Sequence[Part]) -> str:
    """Return the newest part's verdict if it was interrupted, else the worst finding of all."""
    newest = parts[-1]
    if newest.summary.interrupted:
        return f"{newest.name.split(',')[0].capitalize()}: {newest.summary.verdict}"
    found = [
        (finding.weight, part.name, finding.text)
        for part in parts
        for finding in part.summary.findings
    ]
    if not found:
        return "Nothing stands out."
    _, name, text = max(found, key=lambda item: item[0])
    return f"{name.capitalize()}: {text}."


def _busy(epochs: int, interrupted_attempts: int, seconds: float, cost: CostFigures) -> str:
    what = count(epochs, "epoch")
    if interrupted_attempts:
        what += f" and {count(interrupted_attempts, 'interrupted attempt')}"
    spent = [units.duration(seconds)]
    if cost.gpu_hours is not None:
        spent.append(f"{units.number(cost.gpu_hours)} GPU-hours")
    if cost.usd is not None:
        spent.append(units.dollars(cost.usd))
    return f"{what} took {', '.join(spent)}."


def _mean(
    stepped: Sequence[StepFigures],
    read: Callable[[StepFigures], float | None],
    weight: Callable[[StepFigures], float] = lambda steps: steps.seconds,
) -> float | None:
    """Return a mean over epochs, weighted by the time in steps; None when an epoch lacks it."""
    pairs = [(read(steps), weight(steps)) for steps in stepped]
    known = [(value, part) for value, part in pairs if value is not None]
    total = sum(part for _, part in known)
    return (
        sum(value * part for value, part in known) / total
        if total and len(known) == len(pairs)
        else None
    )


def _share_of(phase: str) -> Callable[[StepFigures], float]:
    return lambda steps: steps.shares[phase]


def _highest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _effective_ratio(whole: Sequence[ReportSummary], duration_seconds: float) -> float | None:
    """Return the share of all time that was spent in steps which were kept.

    An epoch's own ratio counts the interrupted attempts at it; those at an epoch that was not
    finished kept nothing.
    """
    kept = [
        summary.effective_ratio
        * (
            summary.duration_seconds
            + sum(attempt.ended_at - attempt.started_at for attempt in summary.attempts)
        )
        for summary in whole
        if summary.effective_ratio is not None
    ]
    return min(1.0, sum(kept) / duration_seconds) if kept and duration_seconds else None


def _health(summaries: Sequence[ReportSummary]) -> list[DeviceHealth]:
    seconds = sum(summary.duration_seconds for summary in summaries)
    states: dict[int, DeviceHealth] = {}
    for summary in summaries:
        share = summary.duration_seconds / seconds if seconds else 0.0
        for state in summary.health:
            slowed = {reason: part * share for reason, part in state.slowed.items()}
            known = states.get(state.gpu)
            if known is None:
                states[state.gpu] = state.model_copy(update={"slowed": slowed})
                continue
            states[state.gpu] = known.model_copy(
                update={
                    "after": state.after,
                    "slowed": {
                        reason: known.slowed.get(reason, 0.0) + slowed.get(reason, 0.0)
                        for reason in known.slowed | slowed
                    },
                    "reports": [*known.reports, *state.reports],
                }
            )
    return [states[gpu] for gpu in sorted(states)]
