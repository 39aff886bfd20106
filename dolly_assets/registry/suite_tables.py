"""Scores on suites as text: one line for logs, and tables for the Dagster UI."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.core.markdown import markdown_list, markdown_table
from dolly_assets.core.text import with_interval
from dolly_assets.registry.attributes import SuiteScore

_SHOWN = 3  # answers of each suite that are not right
_FORM = ".3f"


def score_text(score: SuiteScore) -> str:
    """Return what was scored, in a log line."""
    parts = []
    if score.score is not None:
        parts.append(with_interval(score.score, score.score_interval, _FORM))
    if score.bits_per_byte is not None:
        bits = with_interval(score.bits_per_byte, score.bits_per_byte_interval, _FORM)
        parts.append(f"{bits} bits per byte")
    return ", ".join(parts) or "could not be scored: a loss is not finite"


def scores_markdown(scores: Mapping[str, SuiteScore]) -> str:
    """Return the table of suites, and below it what makes scores mean little."""
    header = ("suite", "records", "score", "bits per byte", "perplexity", "contaminated")
    rows = [
        (
            name,
            f"{score.records:,}",
            with_interval(score.score, score.score_interval, _FORM),
            with_interval(score.bits_per_byte, score.bits_per_byte_interval, _FORM),
            with_interval(score.perplexity, None, ",.2f"),
            "–" if score.contaminated is None else f"{score.contaminated:,}",
        )
        for name, score in scores.items()
    ]
    warnings = [f"{name}: {text}" for name, score in scores.items() for text in score.warnings]
    warnings += [
        f"{name}: {score.contamination}" for name, score in scores.items() if score.contamination
    ]
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
