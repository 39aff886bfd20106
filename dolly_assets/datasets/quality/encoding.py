"""Damaged text: decoded with another encoding than it was written in, cut off, or not text.

Knows characters and bytes, not words.
"""

import re
from collections.abc import Iterator

from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Batch, Records

REPLACEMENT = "�"
# Except tab, line feed, carriage return and next line.
CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]"
# Half of a surrogate pair, spelled out: strings in Arrow cannot contain a real one.
HALF_PAIR = r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
# What UTF-8 of two and more bytes looks like in Windows-1252 or Latin-1: a lead byte, then
# continuation bytes.
_LEAD = r"[\u00c2-\u00f4]"
_HIGH = "".join(bytes([byte]).decode("cp1252", errors="ignore") for byte in range(0x80, 0xA0))
_CONTINUATION = rf"[\u0080-\u00bf{_HIGH}]"
MOJIBAKE = re.compile(rf"{_LEAD}{_CONTINUATION}{{1,3}}")
MOJIBAKE_RE2 = rf"[\x{{c2}}-\x{{f4}}][\x{{80}}-\x{{bf}}{_HIGH}]"


def encoding(records: Records) -> QualityFinding:
    """Find replacement and control characters, halves of surrogate pairs, and mojibake."""
    return finding(
        "encoding", len(records), (hit for batch in records.answers() for hit in _damage(batch))
    )


def _damage(batch: Batch) -> Iterator[FlaggedRecord]:
    patterns = {
        "replacement character": REPLACEMENT,
        "control character": CONTROL,
        "half a surrogate pair": HALF_PAIR,
    }
    for kind, pattern in patterns.items():
        for record, text in batch.matching(batch.everything, pattern):
            match = re.search(pattern, text)
            if match and not (kind == "half a surrogate pair" and _is_whole_pair(text)):
                yield FlaggedRecord(record=record, kind=kind, excerpt=excerpt(text, *match.span()))
    for record, text in batch.matching(batch.everything, MOJIBAKE_RE2):
        if match := next(filter(_was_utf8, MOJIBAKE.finditer(text)), None):
            yield FlaggedRecord(
                record=record, kind="wrongly decoded", excerpt=excerpt(text, *match.span())
            )


def _is_whole_pair(text: str) -> bool:
    r"""Whether each spelled-out half is part of a pair: in code, `\ud83d\ude00` is correct text."""
    return (
        not re.sub(r"(?i)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}", "", text).lower().count("\\ud")
    )


def _was_utf8(match: re.Match[str]) -> bool:
    """Whether the characters are UTF-8 as bytes of Windows-1252 or Latin-1; those of `Ã©` are."""
    text = match[0]
    raw = bytearray()
    for character in text:
        try:
            raw += character.encode("cp1252")
        except UnicodeEncodeError:
            if ord(character) > 0xFF:
                return False
            raw.append(ord(character))
    for end in range(len(raw), 1, -1):
        try:
            raw[:end].decode()
        except UnicodeDecodeError:
            continue
        return True
    return False
