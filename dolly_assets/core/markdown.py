"""Markdown that holds whatever text it is given."""

from collections.abc import Iterable, Sequence

LONGEST_CELL = 300


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are kept on one line, and long ones are cut with an ellipsis."""
    lines = [header, ["---"] * len(header), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_quote(text: str) -> str:
    """A block quote."""
    return "\n".join(f"> {line}" for line in text.splitlines())


def _cell(text: str) -> str:
    one_line = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return one_line if len(one_line) <= LONGEST_CELL else f"{one_line[:LONGEST_CELL]}…"
