"""What a check found: how many records, of which kinds, and a few examples.

Knows counts, not limits.
"""

from collections import Counter
from collections.abc import Iterable

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.datasets.quality.checks import CheckName

EXAMPLES = 5
EXCERPT_CHARACTERS = 80


class FlaggedRecord(Config):
    """A record with a defect."""

    record: int = Field(
        description="Index in the raw dataset; for an evaluation prompt, its index in the family."
    )
    kind: str = Field(description="Kind of defect.")
    excerpt: str = Field(
        description="Text around the defect, or the number of the record that is repeated."
    )


class QualityFinding(Config):
    """The result of one check, before limits are applied."""

    check: CheckName
    checked: int = Field(ge=0, description="Number of records that were checked.")
    found: int = Field(ge=0, description="Number of records with the defect, each counted once.")
    kinds: dict[str, int] = Field(
        default={}, description="Number of defects of each kind; a record may have several."
    )
    examples: tuple[FlaggedRecord, ...] = ()

    @property
    def share(self) -> float:
        """The share of what was checked; 1 if there was nothing to check and that is the defect."""
        return self.found / self.checked if self.checked else float(self.found > 0)


def finding(check: CheckName, checked: int, hits: Iterable[FlaggedRecord]) -> QualityFinding:
    """Count the hits, and keep a few examples of each kind in turn, the first ones first."""
    records: set[int] = set()
    kinds: Counter[str] = Counter()
    first: list[tuple[int, FlaggedRecord]] = []
    for hit in hits:
        records.add(hit.record)
        if kinds[hit.kind] < EXAMPLES:
            first.append((kinds[hit.kind], hit))
        kinds[hit.kind] += 1
    shown = sorted(first, key=lambda item: item[0])[:EXAMPLES]
    examples = tuple(sorted((hit for _, hit in shown), key=lambda hit: hit.record))
    return QualityFinding(
        check=check,
        checked=checked,
        found=len(records),
        kinds=dict(sorted(kinds.items())),
        examples=examples,
    )


def excerpt(text: str, start: int = 0, end: int = 0) -> str:
    """Return the text around a span, on one line, with control characters made visible."""
    room = max(0, EXCERPT_CHARACTERS - (end - start)) // 2
    left, right = max(0, start - room), min(len(text), max(end, start) + EXCERPT_CHARACTERS - room)
    cut = text[left : min(right, left + EXCERPT_CHARACTERS)]
    shown = "".join(
        character if character.isprintable() else _visible(character) for character in cut
    )
    return f"{'…' if left else ''}{shown}{'…' if left + len(cut) < len(text) else ''}"


def _visible(character: str) -> str:
    return " " if character.isspace() else f"<U+{ord(character):04X}>"
