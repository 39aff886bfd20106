"""Two reports side by side: what changed, the figures that users ask for first on top."""

from collections.abc import Callable
from dataclasses import dataclass

from dolly_assets.profiling.analysis import units
from dolly_assets.profiling.analysis.step_figures import STEP_PHASE_NAMES, STEP_PHASES, StepFigures
from dolly_assets.profiling.analysis.summary import ReportSummary


@dataclass(frozen=True)
class Line:
    """One figure of two reports, in words."""

    name: str
    before: str
    now: str
    change: str


def compare(before: ReportSummary, now: ReportSummary) -> list[Line]:
    """Return the figures that at least one of two reports has."""
    lines = (line_of(name, read(before), read(now), words) for name, read, words in _FIGURES)
    return [line for line in lines if line]


def line_of(name: str, old: float | None, new: float | None, words: units.Words) -> Line | None:
    """Return one figure of two reports; None if neither has it.

    Args:
        name: Of the figure.
        old: Its earlier value; None if not measured.
        new: Its present value.
        words: Formats a value.
    """
    if old is None and new is None:
        return None
    change = "" if old is None or new is None or not old else f"{100 * (new / old - 1):+.1f} %"
    return Line(name, words(old), words(new), change)


def _of_steps(
    read: Callable[[StepFigures], float | None],
) -> Callable[[ReportSummary], float | None]:
    return lambda summary: read(summary.steps) if summary.steps else None


def _phase(phase: str) -> Callable[[ReportSummary], float | None]:
    return _of_steps(lambda steps: steps.shares[phase] * steps.step_seconds)


def _gpu_busy(summary: ReportSummary) -> float | None:
    percent = summary.mean_gpu_utilization_percent
    return None if percent is None else percent / 100


_FIGURES: tuple[tuple[str, Callable[[ReportSummary], float | None], units.Words], ...] = (
    ("time", lambda summary: summary.duration_seconds, units.duration),
    ("tokens per second", _of_steps(lambda steps: steps.tokens_per_second), units.number),
    (
        "tokens per second while stepping",
        _of_steps(lambda steps: steps.tokens_per_second_while_stepping),
        units.number,
    ),
    ("MFU", _of_steps(lambda steps: steps.mfu), units.share),
    ("mean step", _of_steps(lambda steps: steps.step_seconds), units.duration),
    *(
        (f"{STEP_PHASE_NAMES[phase]}, of a step", _phase(phase), units.duration)
        for phase in STEP_PHASES
    ),
    ("GPUs busy", _gpu_busy, units.share),
    ("peak GPU memory", lambda summary: summary.peak_gpu_memory_bytes, units.size),
    ("peak process memory", lambda summary: summary.peak_process_memory_bytes, units.size),
    (
        "energy per million labelled tokens",
        lambda s: s.cost.joules_per_million_labelled,
        units.energy,
    ),
    ("cost per million labelled tokens", lambda s: s.cost.usd_per_million_labelled, units.dollars),
    ("stalled by saving", lambda summary: summary.checkpoints.saving_seconds, units.duration),
    ("effective training time", lambda summary: summary.effective_ratio, units.share),
)
