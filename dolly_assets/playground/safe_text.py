"""Answers as Markdown that shows what a model wrote, and loads and runs nothing.

Streamlit shows HTML as text. What it would load are images, and what it would colour are its own
directives: both are shown as they were written. Code stays as it is.
"""

import re

_CODE = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,}).*?(?:^ {0,3}(?P=fence)|\Z)"
    r"|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)
_IMAGE = re.compile(r"!\[")
_DIRECTIVE = re.compile(r":(?=[\w-]+[\[{/])")


def markdown(text: str) -> str:
    """Return an answer as Markdown for Streamlit."""
    shown, end = list[str](), 0
    for code in _CODE.finditer(text):
        shown += [_harmless(text[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*shown, _harmless(text[end:])])


def _harmless(text: str) -> str:
    return _DIRECTIVE.sub(r"\\:", _IMAGE.sub(r"!\\[", text))
