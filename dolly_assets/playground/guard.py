"""What surrounds every request to the page: who may ask, and what browsers let the page do.

A browser must have asked for a name that this server is known by, and from a page of it: else a
page of another site could use this one through a name of its own. What the page loads comes from
this server alone, whatever a model answers.
"""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; manifest-src 'self'; media-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_REFUSED = b"unknown host: set DOLLY_PLAYGROUND_URL to the address that browsers use"


class Guard:
    """Wraps an ASGI application.

    Args:
        app: The application.
        hosts: The names that this server is known by.
        index: The page's HTML, whose own scripts may run.
    """

    def __init__(self, app: App, hosts: Collection[str], index: str) -> None:
        self._app, self._hosts = app, frozenset(hosts)
        policy = _POLICY.format(scripts=" ".join(map(_source, _INLINE_SCRIPT.findall(index))))
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"referrer-policy", b"no-referrer"),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif self._is_for_us(scope["headers"]):
            await self._app(scope, receive, self._guarded(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 421, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSED})

    def _is_for_us(self, headers: list[tuple[bytes, bytes]]) -> bool:
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        return (
            len(hosts) == 1
            and all(_host(f"//{host}") in self._hosts for host in hosts)
            and all(_host(origin) in self._hosts for origin in origins)
        )

    def _guarded(self, send: Send) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        return guarded


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _source(script: str) -> str:
    """Return how a policy names a script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
