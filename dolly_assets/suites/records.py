"""The records of a suite: JSONL, one prompt per line with what is expected of the answer.

Every mistake is found before a model is loaded, and named by file and line.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from dolly_assets.conversations import Conversation
from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError, DollyError
from dolly_assets.core.text import flat, one_line
from dolly_assets.datasets.json_text import check_text, json_type, parse_json
from dolly_assets.generation.prompt import Prompt, PromptMessage
from dolly_assets.suites.instructions import Instructions

ScorerName = Literal["exact", "contains", "regex", "f1", "choice", "instructions", "text"]
SCORERS: tuple[ScorerName, ...] = get_args(ScorerName)
_NEEDS: dict[ScorerName, str] = {
    **dict.fromkeys(("exact", "contains", "regex", "f1"), "expected"),  # pyright: ignore[reportAssignmentType]
    "choice": "choices",
    "instructions": "instructions",
    "text": "text",
}
_LARGEST_BYTES = 64 * 2**20


class Record(Config):
    """A line of a suite."""

    id: str = Field(min_length=1, description="What tells it from the others; its line if absent.")
    line: int = Field(description="Its line in the file.")
    scorer: ScorerName = Field(description="How it is scored.")
    prompt: str = Field(default="", description="What the model is asked.")
    context: str = Field(default="", description="Text that the prompt refers to.")
    system: str = Field(default="", description="The system prompt.")
    messages: tuple[PromptMessage, ...] = Field(
        default=(), description="In place of a prompt, the turns that the model continues."
    )
    text: str = Field(default="", description="Text whose likelihood is measured.")
    expected: tuple[str, ...] = Field(
        default=(), description="The right answers, one of which is enough."
    )
    choices: tuple[str, ...] = Field(default=(), description="The answers to choose from.")
    instructions: Instructions | None = Field(
        default=None, description="What the answer has to be like."
    )

    @field_validator("expected", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_what_its_scorer_needs(self) -> Self:
        needed = _NEEDS[self.scorer]
        if not getattr(self, needed):
            raise ValueError(
                f"the scorer {self.scorer} needs {needed!r}, which is missing or empty"
            )
        unused = {"choices", "instructions", "text"} - {needed}
        if found := [name for name in sorted(unused) if getattr(self, name)]:
            raise ValueError(f"the scorer {self.scorer} does not read {found[0]!r}: remove it")
        if self.scorer != "text":
            self._check_prompt()
        if problem := self._problem_of_expected():
            raise ValueError(problem)
        return self

    def _check_prompt(self) -> None:
        if self.prompt and not self.prompt.strip():
            raise ValueError("the prompt is empty: write what the model is asked")
        if not self.prompt and not self.messages:
            raise ValueError("there is no prompt: write 'prompt' or 'messages'")
        _ = self.asked  # which has its own rules

    def _problem_of_expected(self) -> str | None:
        if any(not text.strip() for text in self.expected):
            return "an expected answer is empty: write the answer, or leave the record out"
        if self.scorer == "regex":
            return next(filter(None, map(_problem_of_pattern, self.expected)), None)
        if self.scorer == "choice":
            if len(set(self.choices)) < max(2, len(self.choices)):
                return "choices must be at least two texts that differ"
            if len(self.expected) != 1 or self.expected[0] not in self.choices:
                return "expected must be one of the choices, word for word"
        return None

    @property
    def asked(self) -> Prompt:
        """The prompt, which `text` does not have."""
        return Prompt(
            instruction=self.prompt,
            context=self.context,
            system=self.system,
            messages=self.messages,
        )

    @property
    def conversation(self) -> Conversation:
        """The prompt in the canonical form."""
        return self.asked.conversation


class SuiteContent(NamedTuple):
    """A suite's file as it was read.

    Attributes:
        records: Its records.
        sha256: SHA-256 of the content that they were read from.
    """

    records: list[Record]
    sha256: str


def read_suite(file: Path, scorer: ScorerName) -> SuiteContent:
    """Read the file of a suite.

    Args:
        file: A JSONL file.
        scorer: The scorer of records that name none.

    Raises:
        ConfigurationError: It cannot be read, has no record, or one is wrong.
    """
    content = _content(file)
    records: list[Record] = []
    lines: dict[str, int] = {}
    for number, text in _lines(file, content):
        record = _record(f"{file}:{number}", number, text, scorer)
        if record.id in lines:
            raise ConfigurationError(
                f"{file}:{number}: the id {record.id!r} is that of line {lines[record.id]}, too: "
                "give each record its own"
            )
        lines[record.id] = number
        records.append(record)
    if not records:
        raise ConfigurationError(f"{file}: the suite has no record: write one JSON object per line")
    return SuiteContent(records, hashlib.sha256(content).hexdigest())


def warnings_of(records: Sequence[Record]) -> list[str]:
    """Return what makes the scores of a suite mean little, though it can be scored."""
    expected = {record.expected for record in records if record.expected}
    count = sum(bool(record.expected) for record in records)
    if count > 1 and len(expected) == 1:
        [answers] = expected
        return [
            f"all {count} records expect the same answer, {flat(answers[0], 60)!r}: a model that "
            "always gives it is right"
        ]
    return []


def _content(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{file}: a suite's file cannot be read ({error.strerror}): name a JSONL file; "
            "relative paths count from the YAML's folder"
        ) from error
    if len(content) > _LARGEST_BYTES:
        raise ConfigurationError(
            f"{file}: a suite has at most {_LARGEST_BYTES >> 20} MiB, found "
            f"{len(content) >> 20} MiB: leave records out"
        )
    return content


def _lines(file: Path, content: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that hold something, with their numbers."""
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{file}:{number}: is not UTF-8 text") from error
        if text.strip():
            yield number, text


def _record(place: str, number: int, text: str, scorer: ScorerName) -> Record:
    """Return the record of a line.

    Raises:
        ConfigurationError: It is none; the message begins with the place.
    """
    try:
        fields = parse_json(text)
        check_text(fields, place)
    except DollyError as error:
        raise ConfigurationError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{place}: is not JSON: {one_line(error)}") from error
    if not isinstance(fields, dict):
        raise ConfigurationError(f"{place}: expected a JSON object, found {json_type(fields)}")
    named = fields.get("scorer", scorer)
    if named not in SCORERS:
        raise ConfigurationError(
            f"{place}: there is no scorer {named!r}; name one of {', '.join(SCORERS)}"
        )
    if "line" in fields:
        raise ConfigurationError(f"{place}: line: extra inputs are not permitted")
    try:
        return Record.model_validate({"id": str(number), **fields, "scorer": named, "line": number})
    except ValidationError as error:
        raise ConfigurationError(f"{place}: {one_line(error)}") from error


def _problem_of_pattern(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error as error:
        return f"expected {flat(pattern, 60)!r} is not a regular expression: {error}"
    return None
