"""A judge that tests direct: it replies what it is told to, fails, is slow, or returns nonsense."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from dolly_assets.judging import Judge

_TEXT = r"=\w+= begin of {}\n(.*?)\n=\w+= end of {}"


class Raw(NamedTuple):
    """A response that is no completion."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("Retry-After", "0"),)


class Seen(NamedTuple):
    """A request as the judge sees it."""

    body: dict[str, Any]
    headers: dict[str, str]

    def text(self, name: str) -> str:
        """Return a text between its marks."""
        found = re.search(_TEXT.format(name, name), self.body["messages"][1]["content"], re.DOTALL)
        assert found
        return found[1]


def prefers_more(seen: Seen) -> str:
    """Reply as an honest judge that counts characters."""
    a, b = len(seen.text("answer A")), len(seen.text("answer B"))
    return "Equal. [[C]]" if a == b else f"It says more.\n[[{'A' if a > b else 'B'}]]"


class StandInJudge(ThreadingHTTPServer):
    """Replies to chat completions.

    Attributes:
        reply: Returns what it replies to a request.
        scripted: What it returns first, before it replies.
        seen: The requests that it has replied to.
        released: Set when requests that hang may end.
    """

    daemon_threads = True

    def __init__(self, reply: Callable[[Seen], str] = prefers_more) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.scripted: list[Raw | None] = []
        self.seen: list[Seen] = []
        self.released = threading.Event()

    def settings(self, **changed: Any) -> Judge:
        """The settings with which it is found."""
        url = f"http://127.0.0.1:{self.server_port}/v1"
        return Judge.model_validate({"url": url, "model": "stand-in", "attempts": 2, **changed})


@contextmanager
def running(reply: Callable[[Seen], str] = prefers_more) -> Iterator[StandInJudge]:
    """Run a judge."""
    with StandInJudge(reply) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.released.set()
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, StandInJudge)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = Seen(body, dict(self.headers))
        if self.server.scripted:
            scripted = self.server.scripted.pop(0)
            if scripted is None:  # it hangs
                self.server.released.wait(20)
                return
            self._send(*scripted)
            return
        self.server.seen.append(seen)
        document = {
            "model": "stand-in-v2",
            "choices": [{"message": {"content": self.server.reply(seen)}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 7},
        }
        self._send(200, json.dumps(document).encode(), ())

    def _send(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
