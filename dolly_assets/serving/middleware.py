"""What happens around every request: who may ask, what is counted, how errors are answered."""

import logging
import time
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dolly_assets.core.errors import TemplateError
from dolly_assets.core.text import one_line
from dolly_assets.serving.errors import ApiError
from dolly_assets.serving.guard import Guard
from dolly_assets.serving.metrics import Metrics

_ANSWERING = frozenset({"/v1/chat/completions", "/v1/completions"})
_LOG = logging.getLogger(__name__)


class Watched:
    """An application behind a guard, whose answers are counted.

    Args:
        app: The application.
        guard: Who may ask.
        metrics: What counts.
    """

    def __init__(self, app: ASGIApp, guard: Guard, metrics: Metrics) -> None:
        self._app, self._guard, self._metrics = app, guard, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = "499", time.monotonic()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        path = str(scope["path"])
        try:
            await self._guarded(scope, receive, sending)
        finally:
            known = path if path in _ANSWERING else "other"
            self._metrics.requests.labels(known, status).inc()
            if path in _ANSWERING and status == "200":
                self._metrics.seconds.labels(path).observe(time.monotonic() - began)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            self._guard.check(request)
        except ApiError as error:
            await refused(request, error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def refused(request: Request, error: Exception) -> Response:
    """Return an error as OpenAI's clients expect it, and log what is not the client's fault."""
    refusal = _as_refusal(error)
    if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        known = isinstance(error, ApiError | HTTPException)
        _LOG.error("%s: %s", request.url.path, refusal, exc_info=None if known else error)
    return JSONResponse(refusal.body, refusal.status, headers=dict(refusal.headers))


def _as_refusal(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return ApiError(str(error.detail), HTTPStatus(error.status_code))
    if isinstance(error, TemplateError):
        return ApiError(one_line(error), param="messages")
    return ApiError(one_line(error), HTTPStatus.SERVICE_UNAVAILABLE, code="model_not_available")
