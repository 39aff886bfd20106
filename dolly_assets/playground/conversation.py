"""A conversation with one model, or with two at once: what was asked and what was answered.

Two models always answer the same prompt: it continues from the answer that was preferred, or from
the first where none was. So every vote compares answers to one prompt. It knows no page.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, Self
from uuid import uuid4

from pydantic import Field, ValidationError

from dolly_assets.conversations import Message
from dolly_assets.core.base import Config
from dolly_assets.core.errors import DatasetError
from dolly_assets.core.text import one_line
from dolly_assets.playground.client import Sampling

FORMAT = "dolly conversation 1"


class Answer(Config):
    """What a model answered."""

    model: str = Field(description="The name under which it is served.")
    address: str = Field(default="", description="Its artifact and digest.")
    text: str = ""
    error: str = Field(default="", description="Why it is not whole, if something is wrong.")
    is_whole: bool = Field(default=False, description="Whether the model has ended it.")


class Turn(Config):
    """A question and its answers, from left to right."""

    id: str = Field(default_factory=lambda: uuid4().hex)
    message: str
    context: str = Field(default="", description="What the message refers to.")
    answers: tuple[Answer, ...] = ()
    sampling: Sampling = Sampling()
    is_blind: bool = Field(default=False, description="Whether the models' names were hidden.")
    preferred: int | None = Field(default=None, description="The place of the preferred answer.")
    is_revealed: bool = Field(default=False, description="Whether the names are shown by now.")

    @property
    def kept(self) -> Answer:
        """The answer from which the conversation continues."""
        return self.answers[self.preferred or 0]

    @property
    def is_open(self) -> bool:
        """Whether a vote on the answers is still possible."""
        is_whole = all(answer.is_whole for answer in self.answers)
        return len(self.answers) > 1 and is_whole and not self.is_revealed


class Conversation(Config):
    """A conversation."""

    format: Literal["dolly conversation 1"] = FORMAT
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    system: str = Field(default="", description="The system prompt.")
    turns: tuple[Turn, ...] = ()

    def prompt(self, turn: Turn) -> tuple[Message, ...]:
        """Return the messages that models answer in a turn, which may be a new one."""
        return tuple(self._prompt(turn))

    def _prompt(self, turn: Turn) -> Iterator[Message]:
        if self.system:
            yield Message("system", self.system)
        for each in self.turns:
            if each.id == turn.id:
                break
            if each.answers and not each.kept.error:
                yield Message("user", each.message, context=each.context)
                yield Message("assistant", each.kept.text)
        yield Message("user", turn.message, context=turn.context)

    def with_turn(self, turn: Turn) -> Self:
        """Return the conversation with a turn, in the place of an earlier version of it."""
        others = [each for each in self.turns if each.id != turn.id]
        place = next((at for at, each in enumerate(self.turns) if each.id == turn.id), len(others))
        turns = (*others[:place], turn, *others[place:])
        return self.model_copy(update={"turns": turns})

    def as_json(self) -> str:
        """Return what `read` reads."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=1)

    @classmethod
    def read(cls, content: bytes, name: str) -> Self:
        """Return a conversation from a file.

        Raises:
            DatasetError: It is none.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise DatasetError(
                f"{name} is no conversation: {one_line(error, 200)}; open a file that the "
                "playground has written"
            ) from error
