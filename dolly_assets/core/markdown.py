"""Markdown in which the text of users, data and models stays text.

Dagster renders Markdown in the browsers of all who look: an answer with `![](https://…)` would be a
picture that each of them fetches. Such text is therefore written as code, in which nothing else has
a meaning. To escape it would not do: Dagster's renderer makes links of addresses after it has
resolved backslashes and entities.
"""

import re
from collections.abc import Iterable, Sequence

from dolly_assets.core.text import flat

LONGEST_CELL = 300

# Words, signs and signed numbers that mean nothing within a line or at its begin, and no address
# that becomes a link. An underscore means nothing within a word.
_PLAIN = re.compile(
    r"(?!.*www\.)(?!\d+[.)](?: |$))(?:[^\W_]|[(–±×…]|[+-](?=\d))"
    r"(?:[^\W_]|[ ,.;!?'\"()%$=+/–±×…-]|:(?!/)|(?<=[^\W_])_(?=[^\W_]))*",
    re.IGNORECASE,
)

_LOADS_OR_LEADS = frozenset({"image", "link_open", "html_inline", "html_block"})


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; each cell is put on one line, and a long one is cut off with an ellipsis."""
    lines = [header, ["---"] * len(header), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_list(items: Iterable[str]) -> str:
    """Return a list of lines."""
    return "\n".join(f"- {inline(item)}" for item in items)


def inline(text: str) -> str:
    """Return a text on one line: as it is if no character of it can mean anything, else as code.

    For descriptions of asset checks and events, which Dagster renders as Markdown, too.
    """
    line = flat(text)
    if not line or _PLAIN.fullmatch(line):
        return line
    # A | ends a cell even within code.
    return "&#124;".join(_code(part) if part else "" for part in line.split("|"))


def code_block(text: str, language: str = "") -> str:
    """Return lines as they are, as a block.

    Args:
        text: Any text.
        language: How to colour it, such as `diff`.
    """
    lines = re.sub("\r\n?", "\n", text)
    fence = _fence(lines, 3)
    return f"{fence}{language}\n{lines}\n{fence}"


def without_links(markdown: str) -> str:
    """Return Markdown of a store as it is, or as a block of code if it holds an image or a link.

    What is written with this module holds none; version 0.1 did not keep texts from being Markdown,
    and others can write to a store.
    """
    from markdown_it import MarkdownIt  # only where Dagster is

    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    parts = [part.type for token in tokens for part in (token, *(token.children or ()))]
    return code_block(markdown) if _LOADS_OR_LEADS.intersection(parts) else markdown


def _cell(text: str) -> str:
    return inline(flat(text, LONGEST_CELL))


def _code(line: str) -> str:
    fence = _fence(line, 1)
    # One space on both sides belongs to the fence, if there is more than spaces between them.
    is_padded = line.startswith("`") or line.endswith("`")
    is_padded = is_padded or (line.startswith(" ") and line.endswith(" ") and bool(line.strip()))
    padding = " " if is_padded else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def _fence(text: str, least: int) -> str:
    """Return more backticks than any run of them in a text, so that nothing in it ends the code."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
