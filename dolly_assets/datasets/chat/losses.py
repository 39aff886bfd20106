"""What reading changes or leaves out of conversations: counted, with the first record of each."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from dolly_assets.core.text import count

MOST_KINDS = 20
"""Kinds of losses that are listed: a source may have a million different keys."""


class RecordError(Exception):
    """What makes a record unusable; where the record is, is added by who knows."""


def place_of(record: int, line: int | None) -> str:
    """Return what messages call a record, counted from 1, and its line if it has one."""
    return f"record {record}" if line is None else f"record {record} (line {line})"


@dataclass
class _Counted:
    first: str
    number: int = 0


@dataclass
class Losses:
    """The losses of a source, by kind.

    Attributes:
        place: The record that is being read.
    """

    place: str = ""
    _counted: dict[tuple[str, str], _Counted] = field(default_factory=dict)
    _others: int = 0

    def note(self, kind: str, of: str = "message", number: int = 1) -> None:
        """Count a loss.

        Args:
            kind: What was changed or left out.
            of: What is counted.
            number: How many it concerns.
        """
        if (kind, of) not in self._counted:
            if len(self._counted) >= MOST_KINDS:
                self._others += number
                return
            self._counted[kind, of] = _Counted(self.place)
        self._counted[kind, of].number += number

    def lines(self) -> Iterator[str]:
        """Yield a line for each kind, in the order in which they were met."""
        for (kind, of), counted in islice(self._counted.items(), MOST_KINDS):
            yield f"{kind}: {count(counted.number, of)}, first in {counted.first}"
        if self._others:
            yield f"other kinds: {count(self._others, 'time')}"
