"""Findings with limits laid on them: what passed, what warns, what stops training, and how that reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dolly_assets.core.markdown import markdown_table
from dolly_assets.datasets.quality.checks import CHECKS, CheckName, Limits, limits_of
from dolly_assets.datasets.quality.finding import QualityFinding


@dataclass(frozen=True)
class Verdict:
    """A finding, judged."""

    finding: QualityFinding
    limits: Limits

    @property
    def name(self) -> CheckName:
        """The check's."""
        return self.finding.check

    @property
    def status(self) -> Literal["passed", "warns", "stops training"]:
        """What follows from it."""
        if self.limits.stop_above is not None and self.finding.share > self.limits.stop_above:
            return "stops training"
        return "warns" if self.finding.share > self.limits.warn_above else "passed"

    @property
    def sentence(self) -> str:
        """What was found, where for example, and how much may be."""
        finding, check = self.finding, CHECKS[self.name]
        text = f"{self.name}: {finding.found:,} of {finding.checked:,} {check.of} {check.finds}"
        if finding.examples:
            first = finding.examples[0]
            text += f", such as {first.record} ({first.kind}: {first.excerpt})"
        if self.status == "stops training":
            text += f"; a share of {self.limits.stop_above:g} at most is trained on"
        return text


def judged(
    findings: Iterable[QualityFinding], of_dataset: Mapping[CheckName, Limits]
) -> list[Verdict]:
    """Every finding beside the dataset's limits."""
    return [Verdict(finding, limits_of(finding.check, of_dataset)) for finding in findings]


def refusal(verdicts: Iterable[Verdict], dataset: str) -> str | None:
    """Why a dataset is not trained on and what to do; None where nothing stops training."""
    stops = [verdict for verdict in verdicts if verdict.status == "stops training"]
    if not stops:
        return None
    return (
        f"dataset {dataset} is not trained on. {'. '.join(verdict.sentence for verdict in stops)}. Mend the source and "
        f"materialize raw_dataset again, or allow more in the dataset's YAML: checks.{stops[0].name}.stop_above"
    )


def verdicts_markdown(verdicts: Iterable[Verdict]) -> str:
    """A table of all checks with their counts."""
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
    """A table of the records that are shown."""
    rows = [(str(example.record), example.kind, example.excerpt) for example in finding.examples]
    return markdown_table(("record", "kind", "excerpt"), rows)
