"""Refusals of the API: an HTTP status, and the body that OpenAI's clients expect with it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from dolly_assets.core.errors import DollyError

RETRY_SECONDS = 2


class ApiError(DollyError):
    """A request is not answered.

    Attributes:
        status: The HTTP status.
        param: The key of the request that is wrong, if one is.
        code: What programs tell errors apart by.
        retry_seconds: When to ask again, if there was no room.
    """

    def __init__(
        self,
        message: str,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_seconds: int = RETRY_SECONDS,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.retry_seconds = retry_seconds

    @property
    def body(self) -> dict[str, Any]:
        """The body, in OpenAI's form."""
        is_ours = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        kind = "server_error" if is_ours else "invalid_request_error"
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            kind = "rate_limit_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that belong to the status."""
        if self.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            return {"Retry-After": str(self.retry_seconds)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        return {}


def busy(message: str) -> ApiError:
    """Return the refusal of a request for which there is no room now."""
    return ApiError(message, HTTPStatus.TOO_MANY_REQUESTS, code="queue_full")


def stopping() -> ApiError:
    """Return the refusal of a request while the server ends."""
    return ApiError(
        "the server is shutting down: ask again",
        HTTPStatus.SERVICE_UNAVAILABLE,
        code="shutting_down",
    )
