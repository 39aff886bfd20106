"""One request and its answers: from encoded prompts to pieces of text, or to the hang-up."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from dolly_assets.core.errors import TemplateError
from dolly_assets.core.text import count
from dolly_assets.generation.dialogue import seed_of_answer
from dolly_assets.generation.sampling import Sampling
from dolly_assets.serving.engine import Generation, Piece
from dolly_assets.serving.errors import ApiError
from dolly_assets.serving.pool import HeldModel
from dolly_assets.serving.requests import ChatRequest, CompletionRequest


class AnswerPiece(NamedTuple):
    """A piece of one of the answers."""

    at: int
    piece: Piece


class Exchange:
    """The answers to a request, while they are generated.

    Attributes:
        first_seconds: How long the first text took; None until then.
    """

    def __init__(self, held: HeldModel, asked: ChatRequest | CompletionRequest) -> None:
        """Prepare to ask; nothing is generated yet.

        Args:
            held: The model, which stays loaded until `close`.
            asked: The request.
        """
        self.first_seconds: float | None = None
        self._held, self._asked = held, asked
        self._pieces: asyncio.Queue[AnswerPiece] = asyncio.Queue()
        self._generations: list[Generation] = []
        self._tokens: dict[int, int] = {}
        self._began = time.monotonic()

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(each.prompt) for each in self._generations)

    @property
    def answer_tokens(self) -> int:
        """Tokens of all answers until now."""
        return sum(self._tokens.values())

    @property
    def answers(self) -> int:
        """How many answers there will be."""
        return len(self._generations)

    async def begin(self, most_answer_tokens: int) -> None:
        """Encode the prompts, and have them answered.

        Args:
            most_answer_tokens: The server's limit of an answer.

        Raises:
            ApiError: A prompt or a limit is wrong.
        """
        loop = asyncio.get_running_loop()
        prompts = await asyncio.to_thread(self._encoded)
        limits = [self._limit(prompt, most_answer_tokens) for prompt in prompts]
        base = self._held.base
        self._generations = [
            Generation(
                prompt=prompt,
                end_token_ids=base.stop_token_ids,
                max_new_tokens=limit,
                sampling=self._sampling(at),
                stops=self._asked.stop,
                tokenizer=base.tokenizer,
                adapter=self._held.adapter,
                on_piece=self._collector(loop, at),
            )
            for at, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
        ]
        for each in self._generations:
            base.engine.submit(each)

    async def pieces(self) -> AsyncIterator[AnswerPiece]:
        """Yield the pieces of all answers, until the last has ended.

        Raises:
            ApiError: The model fails.
        """
        remaining = len(self._generations)
        while remaining:
            found = await self._pieces.get()
            self._tokens[found.at] = found.piece.tokens
            if found.piece.finish == "error":
                raise ApiError(found.piece.problem, HTTPStatus.INTERNAL_SERVER_ERROR)
            if self.first_seconds is None:
                self.first_seconds = time.monotonic() - self._began
            remaining -= found.piece.finish is not None
            yield found

    def close(self) -> None:
        """Free the places of the answers that have not ended."""
        for each in self._generations:
            self._held.base.engine.cancel(each)

    def _collector(self, loop: asyncio.AbstractEventLoop, at: int) -> Callable[[Piece], None]:
        """Return what brings the pieces of an answer from the engine's thread to this one."""
        return lambda piece: _into(loop, self._pieces, AnswerPiece(at, piece))

    def _sampling(self, at: int) -> Sampling | None:
        asked = self._asked
        if not asked.temperature:
            return None
        seed = secrets.randbits(31) if asked.seed is None else seed_of_answer(asked.seed, at + 1)
        return Sampling(asked.temperature, asked.top_p, (seed,))

    def _encoded(self) -> list[Sequence[int]]:
        """Return the prompts as token ids."""
        base, asked = self._held.base, self._asked
        with base.encoding:
            if isinstance(asked, CompletionRequest):
                return [self._ids(prompt) for prompt in asked.prompts]
            try:
                return [base.encoder.prompt(asked.conversation)]
            except TemplateError as error:
                raise ApiError(f"messages: {error}", param="messages") from error

    def _ids(self, prompt: str | list[int]) -> Sequence[int]:
        tokenizer = self._held.base.tokenizer
        if isinstance(prompt, str):
            backend: Any = tokenizer.backend_tokenizer
            ids: list[int] = backend.encode(prompt).ids
            if not ids:
                raise ApiError("prompt: it has no tokens", param="prompt")
            return ids
        if not all(0 <= token < len(tokenizer) for token in prompt):
            raise ApiError(
                f"prompt: expected token ids from 0 to {len(tokenizer) - 1:,}", param="prompt"
            )
        return prompt

    def _limit(self, prompt: Sequence[int], most_answer_tokens: int) -> int:
        """Return how many tokens an answer may have.

        Raises:
            ApiError: The prompt leaves no room for one, or the request wants too many.
        """
        wanted, context = self._asked.most_tokens, self._held.base.context_tokens
        if context is not None and len(prompt) >= context:
            raise ApiError(
                f"the prompt has {count(len(prompt), 'token')}, and the model's context has "
                f"{context:,}: shorten it",
                param="prompt" if isinstance(self._asked, CompletionRequest) else "messages",
                code="context_length_exceeded",
            )
        if wanted is not None and wanted > most_answer_tokens:
            raise ApiError(
                f"max_tokens: expected at most {most_answer_tokens:,}, the limit of this server",
                param="max_tokens",
                code="invalid_value",
            )
        limit = most_answer_tokens if wanted is None else wanted
        return limit if context is None else min(limit, context - len(prompt))


def _into(
    loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[AnswerPiece], piece: AnswerPiece
) -> None:
    """Put a piece into a queue of another thread, unless that has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(queue.put_nowait, piece)
