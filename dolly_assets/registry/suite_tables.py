"""Scores on suites as text: one line for logs, and tables for the Dagster UI."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.core.markdown import markdown_list, markdown_table
from dolly_assets.registry.attributes import SuiteScore

_SHOWN = 3  # answers of each suite that are not right
_NONE = "–"


def score_text(score: SuiteScore) -> str:
    """Return what was scored, in a log line."""
    parts = []
    if score.score is not None:
        parts.append(value_text(score.score, score.score_interval))
    if score.bits_per_byte is not None:
        bits = value_text(score.bits_per_byte, score.bits_per_byte_interval)
        parts.append(f"{bits} bits per byte")
    return ", ".join(parts) or "could not be scored: a loss is not finite"


def value_text(
    value: float | None, interval: tuple[float, float] | None = None, form: str = ".3f"
) -> str:
    """Return a value with its interval, or a dash without one."""
    if value is None:
        return _NONE
    bounds = f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval else ""
    return f"{value:{form}}{bounds}"


def scores_markdown(scores: Mapping[str, SuiteScore]) -> str:
    """Return the table of suites, and below it what makes scores mean little."""
    header = ("suite", "records", "score", "bits per byte", "perplexity")
    rows = [
        (
            name,
            f"{score.records:,}",
            value_text(score.score, score.score_interval),
            value_text(score.bits_per_byte, score.bits_per_byte_interval),
            value_text(score.perplexity, form=",.2f"),
        )
        for name, score in scores.items()
    ]
    warnings = [f"{name}: {text}" for name, score in scores.items() for text in score.warnings]
    table = markdown_table(header, rows)
    return f"{table}\n\n{markdown_list(warnings)}" if warnings else table


def answers_markdown(results: Mapping[str, pa.Table]) -> str:
    """Return the first few answers of each suite that are not right."""
    header = ("suite", "record", "prompt", "expected", "answer", "score")
    rows = [
        (name, row["id"], row["prompt"], _expected(row), row["answer"], f"{row['score']:.2f}")
        for name, table in results.items()
        for row in table.filter(pc.less(table["score"], 1.0)).slice(0, _SHOWN).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
    ]
    return markdown_table(header, rows) if rows else ""


def _expected(row: Mapping[str, list[str] | None]) -> str:
    if row["unfollowed"]:
        return f"to follow: {', '.join(row['unfollowed'])}"
    return " or ".join(row["expected"] or ())
