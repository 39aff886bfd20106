"""An HTTP proxy that misbehaves on purpose, in front of a real S3 server. It knows HTTP and no S3.

One request per connection, so that a fault hits one request. Which request is hit, and where in its
body, follows from a seed.
"""

import random
import socket
import socketserver
import struct
import threading
import time
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

ERRORS = {
    "500": (500, "InternalError"),
    "503 SlowDown": (503, "SlowDown"),
    "permission lost": (403, "AccessDenied"),
    "clock skew": (403, "RequestTimeTooSkewed"),
}
FAULTS = (
    *ERRORS,
    "answer lost",  # the server did it, the client gets a 500
    "reset in request",
    "reset in response",
    "truncated body",  # the connection ends early
    "short body",  # the body is short and Content-Length says so too
    "stall",
    "wrong content",
)
WRONG_REQUEST = "wrong content sent"  # for servers that check the hash in a request's signature
STALL_SECONDS = 3.0


@dataclass(frozen=True)
class Message:
    """A request or an answer."""

    head: bytes
    body: bytes

    def with_body(self, body: bytes) -> Self:
        """The same with another body, and the Content-Length of that."""
        lines = [
            line
            for line in self.head.split(b"\r\n")
            if not line.lower().startswith(b"content-length:")
        ]
        lines.insert(1, b"Content-Length: %d" % len(body))
        return type(self)(b"\r\n".join(lines), body)


class FaultyProxy(socketserver.ThreadingTCPServer):
    """Listens on a free port of this machine.

    Args:
        upstream: the server's URL.
        seed: decides which requests are hit.

    Attributes:
        fault: one of FAULTS, or empty: then all passes.
        share: of the requests that are hit.
        spared: so many requests pass before the first is hit.
        hits: how many were hit.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, upstream: str, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self._chance = random.Random(seed)
        self._guard = threading.Lock()
        self.set_fault("")

    def set_fault(self, fault: str, share: float = 1.0, spared: int = 0) -> None:
        """What happens from now on."""
        self.fault, self.share, self.spared, self.hits = fault, share, spared, 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def draw(self) -> tuple[str, float]:
        """The fault of the next request, if any, and where it strikes, from 0 to 1."""
        with self._guard:
            if self.spared > 0:
                self.spared -= 1
                return "", 0.0
            if not self.fault or self._chance.random() >= self.share:
                return "", 0.0
            self.hits += 1
            return self.fault, self._chance.random()


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, FaultyProxy)
        fault, where = self.server.draw()
        try:
            if fault == "reset in request":
                self._reset_after(int(where * 200_000))
                return
            request = _receive(self.request, is_answer=False)
            if not request:
                return
            if fault in ERRORS:
                error = _error(*ERRORS[fault])
                self._send(Message(error.head, b"") if request.head.startswith(b"HEAD ") else error)
                return
            if fault == WRONG_REQUEST and request.body:
                request = Message(request.head, _flipped(request.body, where))
            answer = self._forward(request)
            if answer:
                self._spoil(answer, fault, where)
        except OSError:  # the client has gone
            pass

    def _forward(self, request: Message) -> Message | None:
        lines = [
            line
            for line in request.head.split(b"\r\n")
            if not line.lower().startswith(b"connection:")
        ]
        assert isinstance(self.server, FaultyProxy)
        with socket.create_connection(self.server.upstream) as upstream:
            upstream.sendall(
                b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + request.body
            )
            is_head = request.head.startswith(b"HEAD ")
            return _receive(upstream, is_answer=True, has_body=not is_head)

    def _spoil(self, answer: Message, fault: str, where: float) -> None:
        cut = int(where * len(answer.body))
        if fault == "answer lost":
            self._send(_error(500, "InternalError"))
        elif fault == "short body" and answer.body:
            self._send(answer.with_body(answer.body[:cut]))
        elif fault == "wrong content" and answer.body:
            self._send(Message(answer.head, _flipped(answer.body, where)))
        elif fault in ("truncated body", "reset in response", "stall"):
            self.request.sendall(_closing(answer.head) + answer.body[:cut])
            if fault == "stall":
                time.sleep(STALL_SECONDS)
            if fault == "reset in response":
                self._reset()
        else:
            self._send(answer)

    def _send(self, message: Message) -> None:
        self.request.sendall(_closing(message.head) + message.body)

    def _reset_after(self, size_bytes: int) -> None:
        self.request.settimeout(0.05)
        try:
            while size_bytes > 0 and (data := self.request.recv(min(size_bytes, 65536))):
                size_bytes -= len(data)
        except TimeoutError:
            pass
        self._reset()

    def _reset(self) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()


def _flipped(body: bytes, where: float) -> bytes:
    changed = bytearray(body)
    changed[int(where * len(changed))] ^= 1 << int(where * 1000) % 8
    return bytes(changed)


def _receive(
    connection: socket.socket, *, is_answer: bool, has_body: bool = True
) -> Message | None:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return None
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    length = _content_length(head) if has_body else 0
    pieces, size = [body], len(body)
    while length is None or size < length:  # an answer without a length ends with its connection
        received = connection.recv(1 << 20)
        if not received:
            break
        pieces.append(received)
        size += len(received)
    return Message(head, b"".join(pieces))


def _content_length(head: bytes) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return None if head.startswith(b"HTTP/") and b" 204 " not in head.split(b"\r\n")[0] else 0


def _closing(head: bytes) -> bytes:
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n"


def _error(status: int, code: str) -> Message:
    message = f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>"
    body = f"<?xml version='1.0'?>{message}".encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml".encode()
    return Message(head, b"").with_body(body)
