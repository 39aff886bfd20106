"""Routes and their limits: OpenAI's API over a service, with health and metrics.

https://platform.openai.com/docs/api-reference
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, NamedTuple

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dolly_assets.core.errors import DollyError
from dolly_assets.serving import names
from dolly_assets.serving.answering import AnswerStream, whole_answer
from dolly_assets.serving.errors import busy, stopping
from dolly_assets.serving.exchange import Exchange
from dolly_assets.serving.guard import Guard, read_body
from dolly_assets.serving.metrics import Metrics
from dolly_assets.serving.middleware import Watched, refused
from dolly_assets.serving.rate import Rate
from dolly_assets.serving.requests import ChatRequest, CompletionRequest, parse
from dolly_assets.serving.responses import Responses
from dolly_assets.serving.service import Service

_LIST_SECONDS = 5.0  # how long a list of the store is shown, so that clients cannot overload it
_LOG = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


class Limits(NamedTuple):
    """What clients may ask at most.

    Attributes:
        requests: Requests that are answered or wait, those of all models together.
        body_bytes: Size of a request.
        answer_tokens: Tokens of an answer.
        per_minute: Requests of one address in a minute; 0 for any number.
    """

    requests: int = 256
    body_bytes: int = 4 << 20
    answer_tokens: int = 4096
    per_minute: int = 0


class Api:
    """The application.

    Attributes:
        app: What an ASGI server runs.
        is_ready: Whether the models that are named at the start are loaded.
        is_stopping: Whether the server ends.
    """

    def __init__(
        self, service: Service, limits: Limits, *, token: SecretStr | None, host: str
    ) -> None:
        self.is_ready = self.is_stopping = False
        self._service, self._limits = service, limits
        self._metrics = Metrics(service.pool)
        self._rate = Rate(limits.per_minute)
        self._running = 0
        self._listed: tuple[float, list[dict[str, Any]]] = (-_LIST_SECONDS, [])
        self._listing = asyncio.Lock()
        handlers: dict[Any, Any] = dict.fromkeys((DollyError, HTTPException, Exception), refused)
        inner = Starlette(
            routes=[
                Route("/v1/chat/completions", self._answering(ChatRequest), methods=["POST"]),
                Route("/v1/completions", self._answering(CompletionRequest), methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/metrics", self._show_metrics),
                Route("/health", self._ready),
                Route("/health/ready", self._ready),
                Route("/health/live", self._live),
            ],
            exception_handlers=handlers,
        )
        self.app = Watched(inner, Guard(token, host), self._metrics)

    def _answering(self, kind: type[ChatRequest | CompletionRequest]) -> Handler:
        """Return what answers requests of a kind."""

        async def answer(request: Request) -> Response:
            if self.is_stopping:
                raise stopping()
            self._rate.take(request.client.host if request.client else "")
            asked = parse(kind, await read_body(request, self._limits.body_bytes))
            async with AsyncExitStack() as stack:
                stack.enter_context(self._place())
                model, held = await stack.enter_async_context(self._service.hold(asked.model))
                exchange = Exchange(held, asked)
                stack.callback(self._count, exchange, request.url.path, asked.model)
                stack.callback(exchange.close)
                await exchange.begin(self._limits.answer_tokens)
                responses = Responses(asked.model, model.checkpoint, isinstance(asked, ChatRequest))
                if asked.stream:
                    wants_usage = asked.stream_options.include_usage
                    return AnswerStream(
                        exchange, responses, stack.pop_all(), wants_usage=wants_usage
                    )
                return await whole_answer(request, exchange, responses)

        return answer

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take one of the places for requests.

        Raises:
            ApiError: There is none.
        """
        if self._running >= self._limits.requests:
            raise busy(f"{self._running} requests are waiting already: ask again later")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def _count(self, exchange: Exchange, path: str, model: str) -> None:
        self._metrics.prompt_tokens.labels(model).inc(exchange.prompt_tokens)
        self._metrics.answer_tokens.labels(model).inc(exchange.answer_tokens)
        if exchange.first_seconds is not None:
            self._metrics.first_seconds.labels(path).observe(exchange.first_seconds)

    async def _models(self, _: Request) -> Response:
        async with self._listing:
            listed_at, entries = self._listed
            if time.monotonic() - listed_at >= _LIST_SECONDS:
                found = await asyncio.to_thread(names.every, self._service.store)
                entries = [model.as_json() for model in found]
                self._listed = (time.monotonic(), entries)
        return JSONResponse({"object": "list", "data": entries})

    async def _model(self, request: Request) -> Response:
        return JSONResponse((await self._service.find(request.path_params["name"])).as_json())

    async def _show_metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def _ready(self, _: Request) -> Response:
        if self.is_stopping:
            raise stopping()
        return JSONResponse({"status": "ready" if self.is_ready else "loading"}, self._status())

    def _status(self) -> int:
        return 200 if self.is_ready else 503

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"status": "live"})
