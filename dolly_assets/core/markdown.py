"""Markdown tables and quotations that hold whatever text they are given."""

from collections.abc import Iterable, Sequence

LONGEST_CELL = 300


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; each cell is put on one line, and a long one is cut off with an ellipsis."""
    lines = [header, ["---"] * len(header), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_quote(text: str) -> str:
    """Return a block quote."""
    return "\n".join(f"> {line}" for line in text.splitlines())


def _cell(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return line if len(line) <= LONGEST_CELL else f"{line[:LONGEST_CELL]}…"
