"""What a judge's reply says: one verdict, or none that can be relied on."""

import re
from typing import Literal

Verdict = Literal["A", "B", "tie"]
_VERDICTS: dict[str, Verdict] = {"A": "A", "B": "B", "C": "tie"}
_IN_BRACKETS = re.compile(r"\[\[\s*([ABC])\s*\]\]")
_ALONE = re.compile(r"[\[*\s]*([ABC])[\]*.\s]*")
_REASONING = "</think>"  # ends what some models write before they reply


def verdict_of(reply: str) -> Verdict | None:
    """Return the verdict of a reply; None if it has none, or several that differ.

    It is `[[A]]`, `[[B]]` or `[[C]]` anywhere, however often, or the bare letter alone.
    """
    said = reply.rpartition(_REASONING)[2]
    letters = set(_IN_BRACKETS.findall(said))
    if not letters and (bare := _ALONE.fullmatch(said)):
        letters = {bare[1]}
    return _VERDICTS[letters.pop()] if len(letters) == 1 else None
