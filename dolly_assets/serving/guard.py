"""Who may ask: clients with the token, or programs on this machine; and how much they may send."""

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from dolly_assets.core.text import memory_size
from dolly_assets.core.urls import LOOPBACK
from dolly_assets.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready"})
"""What probes of a cluster ask, which have no token."""
_JSON = "application/json"


class Guard:
    """Refuses requests that are not for this server.

    Args:
        token: What clients send as `Authorization: Bearer …`; None if there is none.
        host: The address that the server listens on.
    """

    def __init__(self, token: SecretStr | None, host: str) -> None:
        self._token, self._hosts = token, LOOPBACK | {host.lower()}

    def check(self, request: "Request") -> None:
        """Check a request before its body is read.

        Without a token, a browser must have asked for one of the names of this machine: otherwise a
        page of another site could ask through a name of its own that it points here.

        Raises:
            ApiError: It is refused.
        """
        if request.url.path in OPEN_PATHS:
            return
        if self._token is None:
            self._check_host(request)
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        expected = self._token.get_secret_value().encode()
        if not hmac.compare_digest(given.strip().encode(), expected) or scheme.lower() != "bearer":
            raise ApiError(
                "the token is missing or wrong: send it as `Authorization: Bearer TOKEN`, which "
                "OpenAI's clients do with their api_key",
                HTTPStatus.UNAUTHORIZED,
                code="invalid_api_key",
            )

    def _check_host(self, request: "Request") -> None:
        hosts = request.headers.getlist("host")
        try:
            is_ours = len(hosts) == 1 and urlsplit(f"//{hosts[0]}").hostname in self._hosts
        except ValueError:
            is_ours = False
        if not is_ours:
            raise ApiError(
                "unknown host: without a token, this server answers as localhost only",
                HTTPStatus.MISDIRECTED_REQUEST,
            )


async def read_body(request: "Request", most_bytes: int) -> bytes:
    """Return the body of a request, which must be JSON.

    A page of another site can have a browser send everything but JSON without asking first.

    Raises:
        ApiError: It is too large, or declared as something else.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise ApiError(
            f"expected the header Content-Type: {_JSON}", HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        )
    too_large = ApiError(
        f"the body is larger than {memory_size(most_bytes)}, which is the limit of this server",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > most_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise too_large
    return bytes(body)
