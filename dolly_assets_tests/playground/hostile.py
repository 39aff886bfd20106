"""A server of models, at the HTTP edge, whose answers are what no page wants."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

ANSWERS = {
    "hostile": (
        "Look: <script>alert(1)</script> <img src=https://evil.example/a.png onerror=alert(2)>\n\n"
        "![picture](https://evil.example/b.png) ![also][there]\n\n"
        "<iframe src=https://evil.example/c></iframe> <style>@import 'https://evil.example/d'</style>"
        "\n\n`javascript:alert(3)` [press](javascript:alert(4))\n\n"
        "[there]: https://evil.example/e.png\n\nThe end of the answer."
    ),
    "breaks off": "It begins",
    "equal": "The same.",
    "same": "The same.",
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in ANSWERS
        ]
        self._begin("application/json")
        self.wfile.write(json.dumps({"object": "list", "data": models}).encode())

    def do_POST(self) -> None:
        model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
        self._begin("text/event-stream")
        self._chunk({"content": ANSWERS[model]}, None)
        if model != "breaks off":
            self._chunk({}, "stop")
            self.wfile.write(b"data: [DONE]\n\n")

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def _chunk(self, delta: dict[str, str], finish: str | None) -> None:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        self.wfile.write(f"data: {json.dumps({**chunk, 'choices': choices})}\n\n".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def served() -> Iterator[str]:
    """Serves these answers, and yields the address of the API."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
