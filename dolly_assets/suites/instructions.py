"""Instructions that can be verified from an answer's text alone, in the manner of IFEval.

https://arxiv.org/abs/2311.07911. A checker is a function of the answer and what was instructed.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dolly_assets.core.base import Config

Count = int | None
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
_BULLET = re.compile(r"^\s*[-*•]\s+\S", re.MULTILINE)
_FENCE = re.compile(r"^```(?:json)?\s*\n(.*)\n```$", re.DOTALL | re.IGNORECASE)


class Instructions(Config):
    """What an answer has to be like; what is left out does not matter."""

    min_words: Count = Field(default=None, ge=1, description="Fewest words.")
    max_words: Count = Field(default=None, ge=1, description="Most words.")
    min_sentences: Count = Field(default=None, ge=1, description="Fewest sentences.")
    max_sentences: Count = Field(default=None, ge=1, description="Most sentences.")
    paragraphs: Count = Field(
        default=None, ge=1, description="Number of paragraphs, with an empty line between them."
    )
    bullets: Count = Field(
        default=None, ge=0, description="Number of lines that begin with -, * or •."
    )
    include: tuple[str, ...] = Field(
        default=(), description="Words or phrases that occur, apart from case."
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Words or phrases that do not occur, apart from case."
    )
    valid_json: bool | None = Field(
        default=None, description="Whether the answer is JSON; a code block around it is allowed."
    )
    case: Literal["lower", "upper"] | None = Field(
        default=None, description="The case of all letters."
    )
    starts_with: str | None = Field(default=None, min_length=1, description="How it begins.")
    ends_with: str | None = Field(default=None, min_length=1, description="How it ends.")

    @model_validator(mode="after")
    def _can_be_followed(self) -> Self:
        if not self.stated:
            raise ValueError(f"there is no instruction: state one of {', '.join(CHECKERS)}")
        for unit in ("words", "sentences"):
            least, most = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if least and most and least > most:
                raise ValueError(f"min_{unit} {least} is more than max_{unit} {most}")
        if both := {text.casefold() for text in self.include} & {
            text.casefold() for text in self.exclude
        }:
            raise ValueError(f"{min(both)!r} is in include and in exclude")
        return self

    @property
    def stated(self) -> dict[str, Any]:
        """The instructions that were given, by name."""
        values = {name: getattr(self, name) for name in CHECKERS}
        return {name: value for name, value in values.items() if value not in (None, ())}


def not_followed(answer: str, instructions: Instructions) -> list[str]:
    """Return the names of the instructions that an answer does not follow."""
    return [
        name for name, wanted in instructions.stated.items() if not CHECKERS[name](answer, wanted)
    ]


def words(answer: str) -> int:
    """Return how many words an answer has: runs of anything but white space."""
    return len(answer.split())


def sentences(answer: str) -> int:
    """Return how many sentences an answer has: texts that end with . ! or ?, or with the answer."""
    return len([part for part in _SENTENCE_END.split(answer.strip()) if part])


def paragraphs(answer: str) -> int:
    """Return how many paragraphs an answer has."""
    return len([part for part in re.split(r"\n\s*\n", answer.strip()) if part.strip()])


def bullets(answer: str) -> int:
    """Return how many lines of an answer are items of a list."""
    return len(_BULLET.findall(answer))


def mentions(answer: str, phrase: str) -> bool:
    """Whether whole words of an answer are a phrase, apart from case."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", answer, re.IGNORECASE) is not None


def is_json(answer: str) -> bool:
    """Whether an answer is JSON, with or without a code block around it."""
    text = answer.strip()
    fenced = _FENCE.match(text)
    try:
        json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return True


def has_case(answer: str, case: str) -> bool:
    """Whether an answer has letters, all of one case."""
    return answer.islower() if case == "lower" else answer.isupper()


CHECKERS: Mapping[str, Callable[[str, Any], bool]] = {
    "min_words": lambda answer, least: words(answer) >= least,
    "max_words": lambda answer, most: words(answer) <= most,
    "min_sentences": lambda answer, least: sentences(answer) >= least,
    "max_sentences": lambda answer, most: sentences(answer) <= most,
    "paragraphs": lambda answer, wanted: paragraphs(answer) == wanted,
    "bullets": lambda answer, wanted: bullets(answer) == wanted,
    "include": lambda answer, phrases: all(mentions(answer, each) for each in phrases),
    "exclude": lambda answer, phrases: not any(mentions(answer, each) for each in phrases),
    "valid_json": lambda answer, wanted: is_json(answer) == wanted,
    "case": has_case,
    "starts_with": lambda answer, wanted: answer.strip().startswith(wanted),
    "ends_with": lambda answer, wanted: answer.strip().endswith(wanted),
}
"""The checker of each instruction: whether an answer follows it."""
