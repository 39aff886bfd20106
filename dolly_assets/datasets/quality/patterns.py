"""Defects that a pattern finds: markers of prompt formats, and responses that answer nothing.

Patterns are in the syntax of RE2 and searched for in all records at once. A pattern that also
matches many good records is narrowed here.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Batch, Records

# The formats of Dolly and Alpaca, ChatML, Llama 2 and 3, Gemma, Phi and GPT, as their authors
# publish them.
KNOWN_MARKERS = (
    "### Instruction:",
    "### Input:",
    "### Response:",
    "### End",
    "<|im_start|>",
    "<|im_end|>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<|start_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<|endoftext|>",
)
# What reading takes out of messages, and what chat templates write for tools.
CONVERSATION_MARKERS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "[TOOL_CALLS]",
    "<|channel|>",
)


class BadAnswer(NamedTuple):
    """A kind of bad record.

    Attributes:
        kind: Its name.
        where: The text in which it shows.
        pattern: The pattern, in any case.
        unless: A pattern that makes the record good after all; the default matches nothing.
    """

    kind: str
    where: str
    pattern: str
    unless: str = r"(?!)"


_PICTURE = r"(image|picture|photo(graph)?|screenshot|painting|video|illustration)"
_CANNOT = (
    r"\b(cannot|can't|can’t|not able to|unable to|don't have|don’t have|do not have) (the )?"
    r"(access|ability|browse|open|see|view|read|retrieve|provide|create|generate|display|answer|assist|help|fulfill|"
    r"comply|complete|perform|determine|estimate)\b"
)
BAD_ANSWERS = (
    BadAnswer("placeholder", "example", r"<\s*no\s?(input|output)\s*>|\bno(input|output)\b"),
    BadAnswer(
        "placeholder", "context", r"^\s*<?\s*(no\s(input|context)( \w+)?|n/a|none)\s*>?\.?\s*$"
    ),
    BadAnswer("placeholder", "response", r"^\s*<?\s*(no\s(output|response)|n/a)\s*>?\.?\s*$"),
    BadAnswer(
        "speaks as an AI",
        "response",
        r"\b(as|i am|i'm|i’m|being) (just |only |merely )?an? ((ai|artificial "
        r"intelligence)\b|(large )?language model)|\bmy (knowledge|training) cut-?off",
    ),
    BadAnswer(
        "refuses",
        "response",
        rf"^\W*((i'm|i’m|i am) (very |really )?(sorry|afraid)\b.{{0,40}}|i |unfortunately, i "
        rf"){_CANNOT}",
    ),
    BadAnswer(
        "unseen picture",
        "prompt",
        rf"\b(this|attached|following|given|provided|above|below) {_PICTURE}\b",
    ),
    BadAnswer(
        "unseen picture",
        "response",
        rf"\b(in|from) (this|the) (attached |given |provided )?{_PICTURE}\b",
    ),
    BadAnswer("unseen page", "prompt", r"\bhttps?://\S{4,}", unless=r"//(www\.)?example\."),
    BadAnswer("no word in it", "response", r"^[^\p{L}\p{N}\p{S}]+$"),
)
FENCE = r"(?m)^\s*```"


def prompt_markers(records: Records, markers: Sequence[str] = KNOWN_MARKERS) -> QualityFinding:
    """Find texts that contain a marker, usually two examples that were merged into one."""
    pattern = "|".join(re.escape(marker) for marker in markers)
    spelled = re.compile(pattern)

    def hits() -> Iterator[FlaggedRecord]:
        for batch in records.answers():
            for record, text in batch.matching(batch.everything, pattern):
                for match in {found[0]: found for found in spelled.finditer(text)}.values():
                    yield FlaggedRecord(
                        record=record, kind=match[0], excerpt=excerpt(text, *match.span())
                    )

    return finding("prompt_markers", len(records), hits())


def known_bad_answers(records: Records) -> QualityFinding:
    """Find responses that are known to be bad in generated data.

    These are placeholders, refusals, references to pictures and pages that a model cannot see, and
    code fences that are not closed. A conversation with several of them is counted once.
    """
    hits = (hit for batch in records.answers() for hit in _bad_in(batch))
    return finding("known_bad_answers", records.answers_count, hits)


def _bad_in(batch: Batch) -> Iterator[FlaggedRecord]:
    seen: set[tuple[int, str]] = set()
    for kind, where, pattern, unless in BAD_ANSWERS:
        for record, text in batch.matching(getattr(batch, where), pattern, ignore_case=True):
            if (record, kind) not in seen and not re.search(unless, text):
                seen.add((record, kind))
                yield FlaggedRecord(record=record, kind=kind, excerpt=_around(text, pattern))
    for record, text in batch.matching(batch.response, FENCE):
        fences = list(re.finditer(FENCE, text))
        if len(fences) % 2:
            yield FlaggedRecord(
                record=record, kind="open code fence", excerpt=excerpt(text, *fences[-1].span())
            )


def _around(text: str, pattern: str) -> str:
    """Return an excerpt; patterns with classes of Unicode, unknown to `re`, match whole texts."""
    match = None if r"\p" in pattern else re.search(pattern, text, re.IGNORECASE)
    return excerpt(text, *match.span()) if match else excerpt(text)
