"""Answers from a server arrive piece by piece, and each way to fail is one sentence.

The library of OpenAI is real; the server is a stand-in that speaks HTTP.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from pydantic import SecretStr

from dolly_assets.playground.client import AnswerError, Models, Sampling, ServedModel
from dolly_assets.playground.streams import Piece, at_once

pytestmark = pytest.mark.slow  # the library asks uname for its User-Agent
TOKEN = "a-token-of-the-test"
ASKED = [{"role": "user", "content": "Name a bird."}]
KNOWN = {
    "id": "demo/demo/champion",
    "object": "model",
    "created": 0,
    "owned_by": "demo",
    "dolly": {
        "artifact": "demo/champion_model/demo",
        "digest": "3f",
        "epoch": 3,
        "stage": "production",
    },
}


class StandIn(BaseHTTPRequestHandler):
    """Answers as the model's name says."""

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [KNOWN]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._send(401, {"error": {"message": "no token"}})
        elif asked["model"] == "refuses":
            self._send(
                400, {"error": {"message": "the prompt has 900 tokens, and\nthe context 128"}}
            )
        else:
            self._stream(is_whole=asked["model"] != "breaks off")

    def _stream(self, *, is_whole: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for text in ("A ", "wren."):
            self._chunk({"content": text}, None)
        if is_whole:
            self._chunk({}, "stop")
            self.wfile.write(b"data: [DONE]\n\n")

    def _chunk(self, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        data = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        self.wfile.write(f"data: {json.dumps({**data, 'choices': [choice]})}\n\n".encode())

    def _send(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def served() -> Iterator[Models]:
    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Models(f"http://127.0.0.1:{server.server_port}/v1", SecretStr(TOKEN))
        server.shutdown()


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    with served() as models:
        yield models


def test_models_are_listed_with_what_the_server_states(models: Models) -> None:
    [found] = models.all()
    assert found == ServedModel(
        "demo/demo/champion", "demo/champion_model/demo", "3f", 3, "production"
    )
    assert found.address == "demo/champion_model/demo@3f"
    assert ServedModel("gpt").address == "gpt"


def test_an_answer_arrives_in_pieces(models: Models) -> None:
    assert list(models.answer("answers", ASKED, Sampling())) == ["A ", "wren."]


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("refuses", "the prompt has 900 tokens, and the context 128$"),
        ("breaks off", "ended in the middle of the answer: start it again"),
    ],
)
def test_an_answer_that_is_not_whole_says_why(models: Models, model: str, problem: str) -> None:
    with pytest.raises(AnswerError, match=problem):
        list(models.answer(model, ASKED, Sampling()))


def test_a_wrong_token_is_named(models: Models) -> None:
    with pytest.raises(AnswerError, match=r"wants another token: .*--token-file"):
        list(Models(models.url).answer("answers", ASKED, Sampling()))


def test_a_server_that_is_gone_is_named() -> None:
    with served() as gone:
        pass
    with pytest.raises(AnswerError, match=r"/v1 cannot be reached: .*--server"):
        gone.all()


def test_two_answers_arrive_at_once_and_one_that_fails_keeps_the_other(models: Models) -> None:
    pieces = list(
        at_once(
            [
                lambda: models.answer("answers", ASKED, Sampling()),
                lambda: models.answer("breaks off", ASKED, Sampling()),
            ]
        )
    )
    texts = ["".join(piece.text for piece in pieces if piece.place == place) for place in (0, 1)]
    assert texts == ["A wren.", "A wren."]
    assert [piece for piece in pieces if piece.is_end] == [Piece(0, is_end=True)]
    assert [piece.place for piece in pieces if piece.error] == [1]
