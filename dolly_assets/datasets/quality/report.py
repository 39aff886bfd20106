"""Findings judged against limits: what passed, what warns, what stops training; and as text.

Knows neither how defects are found nor where findings are stored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dolly_assets.core.markdown import markdown_table
from dolly_assets.datasets.quality.checks import CHECKS, CheckName, Limits, limits_of
from dolly_assets.datasets.quality.finding import QualityFinding


@dataclass(frozen=True)
class Verdict:
    """A finding, judged against limits."""

    finding: QualityFinding
    limits: Limits

    @property
    def name(self) -> CheckName:
        """The name of the check."""
        return self.finding.check

    @property
    def status(self) -> Literal["passed", "warns", "stops training"]:
        """What follows from the finding."""
        if self.limits.stop_above is not None and self.finding.share > self.limits.stop_above:
            return "stops training"
        return "warns" if self.finding.share > self.limits.warn_above else "passed"

    @property
    def sentence(self) -> str:
        """What was found, an example, and the limit that it exceeds."""
        finding, check = self.finding, CHECKS[self.name]
        text = f"{self.name}: {finding.found:,} of {finding.checked:,} {check.of} {check.finds}"
        if finding.examples:
            first = finding.examples[0]
            text += f", such as record {first.record} ({first.kind}: {first.excerpt})"
        if self.status == "stops training":
            text += f": the limit is {_limit(self.limits.stop_above or 0)}"
        return text


def judged(
    findings: Iterable[QualityFinding], of_dataset: Mapping[CheckName, Limits]
) -> list[Verdict]:
    """Judge every finding against the dataset's limits."""
    return [Verdict(finding, limits_of(finding.check, of_dataset)) for finding in findings]


def refusal(verdicts: Iterable[Verdict], dataset: str) -> str | None:
    """Return why a dataset is refused for training, and what to do; None if it is not."""
    stops = [verdict for verdict in verdicts if verdict.status == "stops training"]
    if not stops:
        return None
    return (
        f"dataset {dataset} was refused for training: "
        f"{'; '.join(verdict.sentence for verdict in stops)}. Fix the source and materialize "
        "raw_dataset again, or raise the limit in the dataset's YAML, "
        f"checks.{stops[0].name}.stop_above"
    )


def verdicts_markdown(verdicts: Iterable[Verdict]) -> str:
    """Return a table of all checks with their counts."""
    rows = [
        (
            verdict.name,
            verdict.status,
            f"{verdict.finding.found:,} of {verdict.finding.checked:,}",
            ", ".join(f"{kind} {count:,}" for kind, count in verdict.finding.kinds.items()),
        )
        for verdict in verdicts
    ]
    return markdown_table(("check", "result", "found", "of which"), rows)


def examples_markdown(finding: QualityFinding) -> str:
    """Return a table of the example records."""
    rows = [(str(example.record), example.kind, example.excerpt) for example in finding.examples]
    return markdown_table(("record", "kind", "excerpt"), rows)


def _limit(share: float) -> str:
    """Return a limit as a percentage, with as many decimals as it needs."""
    return f"{100 * share:g} %"
