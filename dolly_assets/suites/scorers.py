"""How right an answer is, from 0 to 1, by the scorer of its record. It knows texts alone."""

import re
from collections.abc import Callable, Mapping

from dolly_assets.scoring.texts import is_exact, token_f1
from dolly_assets.suites.instructions import not_followed
from dolly_assets.suites.records import Record


def score(record: Record, answer: str) -> float:
    """Return the score of an answer that was generated; of several expected ones the best."""
    if record.scorer == "instructions":
        return float(not unfollowed(record, answer))
    compare = _COMPARED[record.scorer]
    return max(float(compare(answer, expected)) for expected in record.expected)


def unfollowed(record: Record, answer: str) -> list[str]:
    """Return the names of the record's instructions that an answer does not follow."""
    return not_followed(answer, record.instructions) if record.instructions else []


def contains(answer: str, expected: str) -> bool:
    """Whether an answer contains a text, apart from case and runs of white space."""
    given, wanted = (" ".join(text.casefold().split()) for text in (answer, expected))
    return wanted in given


def matches(answer: str, pattern: str) -> bool:
    """Whether a regular expression is found in an answer."""
    return re.search(pattern, answer) is not None


_COMPARED: Mapping[str, Callable[[str, str], float]] = {
    "exact": is_exact,
    "contains": contains,
    "regex": matches,
    "f1": token_f1,
}
