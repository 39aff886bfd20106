"""No text becomes Markdown: judged by markdown-it, a CommonMark parser with GitHub's tables."""

import random
import re
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from dolly_assets.core.markdown import (
    code_block,
    inline,
    markdown_list,
    markdown_table,
    without_links,
)

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PIECES = [
    *"\\`*_{}[]()<>#+-.!|~&;:/@\"'=$%^?, \t\n\r0a1Zé–\u00a0\u200b\x01",
    *("![t](https://evil.example/t.png)", "[t](javascript:alert(1))", "<https://evil.example>"),
    *(
        "a_b",
        "_a",
        "b_",
        "https://evil.example",
        "www.evil.example",
        "a@evil.example",
        "mailto:a@evil.example",
    ),
    *("<script>alert(1)</script>", "<img src=x>", "<!-- ", "&amp;", "&#124;", "\\|", "\\\\|", "``"),
    *("```", "````\n", "~~~\n", "\n\n", "    ", "- ", "1. ", "# ", "> ", "|\n", "| --- |", "**a**"),
    *("[a]: https://evil.example\n", "[a]", "![a]", "$x$", "\n---\n", "~~a~~", "[x] ", "[^1]"),
]
# An address in text, not in code, becomes a link in Dagster; this parser's tables know no links.
ADDRESS = re.compile(r"://|www\.|@|mailto:", re.IGNORECASE)
LAYOUT = "paragraph|table|thead|tbody|tr|th|td|bullet_list|list_item"


def texts(count: int) -> Iterator[str]:
    chance = random.Random(1)
    yield from PIECES
    for _ in range(count):
        yield "".join(chance.choices(PIECES, k=chance.randint(1, 10)))


def shown(tokens: list[Token]) -> str:
    """Return the text that readers see; fail if any of it means more than text."""
    parts = []
    for token in tokens:
        if token.type == "inline":
            parts.append(shown(token.children or []))
        elif token.type == "text":
            assert not ADDRESS.search(token.content)
            parts.append(token.content)
        elif token.type in ("code_inline", "fence"):
            parts.append(token.content)
        else:
            assert re.fullmatch(rf"({LAYOUT})_(open|close)", token.type), token.type
    return "".join(parts)


def as_lines(text: str) -> str:
    """Return what any Markdown makes of the characters that it has no place for."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("language", ["", "diff"])
def test_a_block_shows_its_text_and_nothing_else(language: str) -> None:
    for text in texts(1500):
        tokens = PARSER.parse(f"before\n\n{code_block(text, language)}\n\nafter")
        assert shown(tokens) == f"before{as_lines(text)}\nafter", repr(text)


def test_a_table_shows_its_texts_and_nothing_else() -> None:
    for text in texts(3000):
        tokens = PARSER.parse(markdown_table(["one", "two"], [[text, "x"], ["y", text]]))
        line = one_line(text)
        assert shown(tokens) == f"onetwo{line}xy{line}", repr(text)
        assert [token.type for token in tokens].count("td_open") == 4, repr(text)


def test_a_list_shows_its_texts_and_nothing_else() -> None:
    for text in texts(1500):
        tokens = PARSER.parse(markdown_list(["first", text, "last"]))
        assert shown(tokens) == f"first{one_line(text)}last", repr(text)
        assert [token.type for token in tokens].count("list_item_open") == 3, repr(text)


def test_a_description_shows_its_text_and_nothing_else() -> None:
    for text in texts(3000):
        tokens = PARSER.parse(inline(text))
        assert shown(tokens) == one_line(text), repr(text)
        assert not [token for token in tokens if token.type.startswith("list")], repr(text)


def test_a_long_cell_is_cut_off_before_it_is_written_as_code() -> None:
    [_, _, line] = markdown_table(["one"], [["`" * 299 + "|" * 20]]).splitlines()
    tokens = PARSER.parse(f"| one |\n| --- |\n{line}")
    assert shown(tokens) == "one" + "`" * 299 + "|…"


def test_plain_words_and_numbers_stay_plain() -> None:
    rows = [
        ["0 (base model)", "1,234.50", "± 25 %", "3 min 05 s", "–", "x × y", "Größe", "over_long"]
    ]
    [_, _, line] = markdown_table(["h"] * 8, rows).splitlines()
    assert "`" not in line
    sentence = "8 × A100: it's 41 GiB of 80 GiB (51 %), 3 h 20 min; about $59"
    assert inline(sentence) == sentence


def test_markdown_of_a_store_is_shown_if_nothing_in_it_loads_or_leads_anywhere() -> None:
    for text in texts(300):
        ours = f"{code_block(text)}\n\n{markdown_table(['one'], [[text]])}\n\n- {inline(text)}"
        assert without_links(ours) == ours
    assert without_links("**bold**\n\n> quoted") == "**bold**\n\n> quoted"


@pytest.mark.parametrize(
    "hostile",
    [
        "> ![t](https://evil.example/t.png)",
        "| a |\n| --- |\n| ![t](https://evil.example/t.png) |",
        "![t][1]\n\n[1]: https://evil.example/t.png",
        "[log in](https://evil.example)",
        "<https://evil.example>",
        "a <img src=https://evil.example/t.png>",
        "<script>\nalert(1)\n</script>",
    ],
)
def test_markdown_of_a_store_that_loads_or_leads_elsewhere_is_shown_as_code(hostile: str) -> None:
    assert shown(PARSER.parse(without_links(hostile))) == f"{hostile}\n"
