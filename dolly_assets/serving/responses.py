"""What a client gets: OpenAI's responses, whole and in pieces.

https://platform.openai.com/docs/api-reference/chat/object
"""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dolly_assets.serving.engine import Finish


class Answer(NamedTuple):
    """A whole answer."""

    text: str
    finish: Finish


@dataclass(frozen=True)
class Responses:
    """The responses to one request.

    Attributes:
        model: The name that the client asked for.
        digest: Of the checkpoint that answers.
        is_chat: Whether it answers with messages, and not with texts.
    """

    model: str
    digest: str
    is_chat: bool
    _id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Answer], usage: Mapping[str, int]) -> dict[str, Any]:
        """Return the response that has all answers."""
        choices = [
            self._choice(at, self._message(answer.text), answer.finish)
            for at, answer in enumerate(answers)
        ]
        return {**self._base(choices, is_chunk=False), "usage": usage}

    def first(self, choices: int) -> list[dict[str, Any]]:
        """Return the chunks before the first text: who speaks."""
        if not self.is_chat:
            return []
        delta = {"delta": {"role": "assistant", "content": ""}}
        return [self._base([self._choice(at, delta, None)], is_chunk=True) for at in range(choices)]

    def piece(self, at: int, text: str, finish: Finish | None) -> dict[str, Any]:
        """Return a chunk: text of an answer, or its end."""
        delta = {"delta": {"content": text} if text else {}} if self.is_chat else {"text": text}
        return self._base([self._choice(at, delta, finish)], is_chunk=True)

    def usage(self, usage: Mapping[str, int]) -> dict[str, Any]:
        """Return the last chunk, which has no text."""
        return {**self._base([], is_chunk=True), "usage": usage}

    def _message(self, text: str) -> dict[str, Any]:
        return (
            {"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}
        )

    def _choice(self, at: int, content: Mapping[str, Any], finish: Finish | None) -> dict[str, Any]:
        return {"index": at, **content, "logprobs": None, "finish_reason": finish}

    def _base(self, choices: list[dict[str, Any]], *, is_chunk: bool) -> dict[str, Any]:
        kind = "text_completion"
        if self.is_chat:
            kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        return {
            "id": f"{'chatcmpl' if self.is_chat else 'cmpl'}-{self._id}",
            "object": kind,
            "created": self._created,
            "model": self.model,
            "system_fingerprint": self.digest,
            "choices": choices,
        }


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return how many tokens a request had."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def event(data: Any) -> bytes:
    """Return a server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


DONE = event("[DONE]")
