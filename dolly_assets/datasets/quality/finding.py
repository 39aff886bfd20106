"""What a check found: how many records, of which kinds, and a few of them to look at."""

from collections import Counter
from collections.abc import Iterable

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.datasets.quality.checks import CheckName

EXAMPLES = 5
EXCERPT_CHARACTERS = 80


class FlaggedRecord(Config):
    """One of the records found."""

    record: int = Field(
        description="Index in the raw dataset; of an evaluation prompt, its place in the family."
    )
    kind: str = Field(description="What sort of defect it is.")
    excerpt: str = Field(
        description="The text around it, or the number of the record that it repeats."
    )


class QualityFinding(Config):
    """The result of one check, before any limit is laid on it."""

    check: CheckName
    checked: int = Field(ge=0, description="How many were looked at.")
    found: int = Field(ge=0, description="How many have the defect, each counted once.")
    kinds: dict[str, int] = Field(
        default={}, description="How many of each kind; a record may be of several."
    )
    examples: tuple[FlaggedRecord, ...] = ()

    @property
    def share(self) -> float:
        """Of what was looked at; 1 where there was nothing to look at and that itself is the defect."""
        return self.found / self.checked if self.checked else float(self.found > 0)


def finding(check: CheckName, checked: int, hits: Iterable[FlaggedRecord]) -> QualityFinding:
    """Counts what was hit. A few examples of each kind in turn are kept, the first ones first."""
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
    """The text around a span of it, on one line, with control characters made visible."""
    room = max(0, EXCERPT_CHARACTERS - (end - start)) // 2
    left, right = max(0, start - room), min(len(text), max(end, start) + EXCERPT_CHARACTERS - room)
    cut = text[left : min(right, left + EXCERPT_CHARACTERS)]
    shown = "".join(
        character if character.isprintable() else _visible(character) for character in cut
    )
    return f"{'…' if left else ''}{shown}{'…' if left + len(cut) < len(text) else ''}"


def _visible(character: str) -> str:
    return " " if character.isspace() else f"<U+{ord(character):04X}>"
