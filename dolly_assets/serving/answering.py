"""Answers on their way to a client: whole, or as a stream of events."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from dolly_assets.serving.engine import Finish
from dolly_assets.serving.errors import ApiError
from dolly_assets.serving.exchange import Exchange
from dolly_assets.serving.responses import DONE, Answer, Responses, event, usage

_LOG = logging.getLogger(__name__)
_HUNG_UP = Response(status_code=499)  # which nobody reads; it is what metrics count


class AnswerStream(StreamingResponse):
    """A stream of events, at whose end everything that it holds is released.

    When the client hangs up, Starlette cancels it.
    """

    def __init__(
        self,
        exchange: Exchange,
        responses: Responses,
        held: AsyncExitStack,
        *,
        wants_usage: bool,
    ) -> None:
        super().__init__(
            _events(exchange, responses, wants_usage=wants_usage),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        async with self._held:
            await super().__call__(scope, receive, send)


async def _events(
    exchange: Exchange, responses: Responses, *, wants_usage: bool
) -> AsyncIterator[bytes]:
    try:
        for chunk in responses.first(exchange.answers):
            yield event(chunk)
        async for at, piece in exchange.pieces():
            if piece.text:
                yield event(responses.piece(at, piece.text, None))
            if piece.finish:
                yield event(responses.piece(at, "", piece.finish))
        if wants_usage:
            yield event(responses.usage(_usage(exchange)))
        yield DONE
    except ApiError as error:
        yield event(error.body)


async def whole_answer(request: Request, exchange: Exchange, responses: Responses) -> Response:
    """Return all answers at once; when the client hangs up, what was generated is discarded.

    Raises:
        ApiError: The model fails.
    """
    answering = asyncio.ensure_future(_collected(exchange))
    leaving = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            return _HUNG_UP
        return JSONResponse(responses.whole(answering.result(), _usage(exchange)))
    finally:
        for task in (answering, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, ApiError):
                await task


async def _collected(exchange: Exchange) -> list[Answer]:
    texts: list[list[str]] = [[] for _ in range(exchange.answers)]
    finishes: list[Finish] = ["stop"] * exchange.answers
    async for at, piece in exchange.pieces():
        texts[at].append(piece.text)
        finishes[at] = piece.finish or finishes[at]
    return [Answer("".join(pieces), finish) for pieces, finish in zip(texts, finishes, strict=True)]


async def _hang_up(request: Request) -> None:
    """Return when the client has closed the connection."""
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await request.receive()


def _usage(exchange: Exchange) -> dict[str, int]:
    return usage(exchange.prompt_tokens, exchange.answer_tokens)
