"""A dialogue with a model, which sees all of it that fits its context.

Prompts are made by the encoder that training uses. It knows nothing of terminals.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dolly_assets.conversations import Conversation, Message
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.hashing import json_digest
from dolly_assets.generation.answer import answer
from dolly_assets.generation.sampling import Sampling
from dolly_assets.training.context import Context

if TYPE_CHECKING:
    from transformers.generation.streamers import BaseStreamer

    from dolly_assets.generation.model import LoadedModel

_REASONING_END = "</think>"


@dataclass(frozen=True)
class Settings:
    """How answers are generated; `answer` and `Sampling` document them.

    Attributes:
        seed: With the number of answers before it, what an answer is sampled from.
    """

    max_new_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        text: The answer.
        forgotten: How many of the oldest messages were left out, so that the prompt fits.
    """

    text: str
    forgotten: int


@dataclass
class Dialogue:
    """A conversation with a model.

    Attributes:
        loaded: The model.
        settings: How it answers.
        system: The system prompt; may be empty.
        messages: The turns that it remembers, from a user's on.
    """

    loaded: "LoadedModel"
    settings: Settings = Settings()
    system: str = ""
    messages: list[Message] = field(default_factory=list)
    _answered: int = field(default=0, init=False)

    @property
    def context_tokens(self) -> int | None:
        """Tokens that prompt and answer may have together; None if there is no limit."""
        context = Context.of(self.loaded.model.config.to_dict())
        return context.tokens if context else None

    def ask(self, text: str, context: str = "", *, streamer: "BaseStreamer | None" = None) -> Reply:
        """Answer a message, and remember both.

        Args:
            text: The message.
            context: Text that it refers to.
            streamer: Gets the tokens of the answer as they are generated.

        Raises:
            ConfigurationError: The message alone is too long for the model.
            TemplateError: The model's template refuses the conversation.
        """
        known = [*self.messages, Message("user", text, context=context)]
        kept, prompt = self._fitting(known)
        limit, room = self.context_tokens, self.settings.max_new_tokens
        [said] = answer(
            self.loaded.model,
            self.loaded.tokenizer,
            [prompt],
            end_token_ids=self.loaded.encoder.end_token_ids,
            max_new_tokens=min(room, limit - len(prompt)) if limit else room,
            sampling=self._sampling(),
            streamer=streamer,
        )
        self.messages = [*kept, as_turn(said)]
        return Reply(said, forgotten=len(known) - len(kept))

    def _sampling(self) -> Sampling | None:
        settings = self.settings
        if not settings.temperature:
            return None
        self._answered += 1
        seed = seed_of_answer(settings.seed, self._answered)
        return Sampling(settings.temperature, settings.top_p, (seed,))

    def reset(self) -> None:
        """Forget everything but the system prompt."""
        self.messages = []

    def _fitting(self, messages: list[Message]) -> tuple[list[Message], list[int]]:
        """Return the newest messages that leave room for an answer, and their prompt."""
        limit = self.context_tokens
        while True:
            system = [Message("system", self.system)] if self.system else []
            prompt = self.loaded.encoder.prompt(Conversation((*system, *messages)))
            if not limit or len(prompt) + self.settings.max_new_tokens <= limit:
                return messages, prompt
            starts = [at for at, each in enumerate(messages) if each.role == "user"]
            if len(starts) == 1 and len(prompt) < limit:
                return messages, prompt
            if len(starts) == 1:
                raise ConfigurationError(
                    f"the message makes a prompt of {len(prompt):,} tokens, and the model's "
                    f"context has {limit:,}: shorten it"
                )
            messages = messages[starts[1] :]


def seed_of_answer(seed: int, number: int = 1) -> int:
    """Return what the first answer of a dialogue is sampled from, or a later one."""
    return int(json_digest([seed, number])[:8], 16)


def as_turn(text: str) -> Message:
    """Return an answer as a turn, in which its reasoning is apart from its content."""
    reasoning, end, content = text.rpartition(_REASONING_END)
    if not end:
        return Message("assistant", text)
    return Message(
        "assistant", content.strip(), reasoning=reasoning.strip().removeprefix("<think>").strip()
    )
