"""One request to a judge, and every way in which it can fail."""

import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

from dolly_assets.core.errors import ConfigurationError, JudgeError
from dolly_assets.core.text import one_line
from dolly_assets.judging import Judge
from dolly_assets.judging.client import JudgeClient, Reply
from dolly_assets.judging.prompt import Question, messages
from dolly_assets_tests.judging.stand_in import Raw, StandInJudge, running

KEY = "sk-very-secret"


@pytest.fixture
def server() -> Iterator[StandInJudge]:
    with running() as judge:
        yield judge


def ask(judge: Judge) -> Reply:
    asked = messages(Question("1", "Hi?"), "a", "bb", criteria="x", max_characters=100)
    return JudgeClient(judge, {"JUDGE_KEY": KEY}).ask(judge.body(asked.messages))


def test_a_request_is_repeatable_and_states_whom_it_is_for(server: StandInJudge) -> None:
    judge = server.settings(
        seed=3, api_key={"env": "JUDGE_KEY"}, request={"max_tokens": None, "top_p": 1}
    )
    reply = ask(judge)
    assert reply.text == "It says more.\n[[B]]"
    assert reply[1:5] == ("stand-in-v2", "stop", 100, 7)
    [(body, headers)] = server.seen
    assert body.pop("messages")[0]["role"] == "system"
    assert body == {"model": "stand-in", "temperature": 0, "seed": 3, "top_p": 1}
    assert headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("busy", [Raw(429), Raw(503), Raw(500)])
def test_a_busy_judge_is_asked_again(server: StandInJudge, busy: Raw) -> None:
    server.scripted = [busy]
    assert ask(server.settings()).text.endswith("[[B]]")
    server.scripted = [busy, busy]
    with pytest.raises(JudgeError, match=rf"answered {busy.status}: it was busy .* 2 attempts"):
        ask(server.settings())


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (
            Raw(401, json.dumps({"error": {"message": f"wrong key {KEY}"}}).encode()),
            "answered 401 (wrong key …): check the key in JUDGE_KEY",
        ),
        (
            Raw(404, json.dumps({"error": {"message": "model 'x' not found"}}).encode()),
            "answered 404 (model 'x' not found): check evaluation.judge.model, and",
        ),
        (Raw(400, b"no seed here"), "answered 400 (no seed here): it may not accept a key of"),
        (
            Raw(302, headers=(("Location", "https://u:p@elsewhere/?t=1"),)),
            "it redirects to https://elsewhere/: set evaluation.judge.url to it",
        ),
        (Raw(200, b"<html>login</html>"), "something else than a chat completion"),
        (Raw(200, b'{"choices": []}'), "something else than a chat completion"),
        (Raw(200, b'{"choices": [{"message": {"content": 5}}]}'), "than a chat completion"),
        (Raw(200, b"\xff\xfe"), "something else than a chat completion"),
        (Raw(200), "something else than a chat completion"),
        (Raw(200, b" " * 5_000_000), "sent more than 4,194,304 bytes"),
    ],
)
def test_a_refusal_and_nonsense_are_one_sentence_without_the_key(
    server: StandInJudge, response: Raw, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.scripted = [response]
    with pytest.raises(JudgeError) as caught:
        ask(server.settings(api_key={"env": "JUDGE_KEY"}))
    text = str(caught.value)
    assert text.startswith("the judge stand-in at http://127.0.0.1:")
    assert told in text
    assert "\n" not in text
    assert KEY not in text + caplog.text


def test_a_key_that_is_needed_and_not_named(server: StandInJudge) -> None:
    server.scripted = [Raw(401)]
    with pytest.raises(JudgeError, match=r"answered 401: name its key with api_key: \{env: …\}"):
        ask(server.settings())


def test_a_judge_that_hangs_is_given_up(server: StandInJudge) -> None:
    server.scripted = [None]
    with pytest.raises(JudgeError, match=r"not replied within 0\.2 s: raise evaluation\.judge\.ti"):
        ask(server.settings(timeout_seconds=0.2, attempts=1))


def test_nobody_at_the_address() -> None:
    judge = Judge(url="http://127.0.0.1:9/v1", model="m", attempts=1)
    with pytest.raises(JudgeError, match=r"cannot be reached: .*Connection refused; start it"):
        ask(judge)


def test_an_empty_reply_is_a_reply(server: StandInJudge) -> None:
    body = b'{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}'
    server.scripted = [Raw(200, body)]
    assert ask(server.settings())[:5] == ("", "", "length", None, None)


def test_a_key_whose_variable_is_not_set() -> None:
    judge = Judge.model_validate({"url": "http://x", "model": "m", "api_key": {"env": "NOT_SET"}})
    with pytest.raises(ConfigurationError, match="variable NOT_SET is not set: set it to the jud"):
        JudgeClient(judge, {})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"url": "https://me:hush@host/v1"}, "user name or password"),
        ({"url": "https://host/v1?key=hush"}, "with a query or fragment, which may hold a secret"),
        ({"url": "localhost:11434"}, "is no URL of a server: expected one such as"),
        ({"api_key": "hush"}, "api_key"),
        ({"api_key": {"env": "not a name, hush"}}, "api_key.env"),
        ({"request": {"model": "other"}}, "request.model cannot be set"),
        ({"records": 0}, "records"),
    ],
)
def test_wrong_settings_are_refused_without_showing_secrets(
    wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=r"^\d validation error") as caught:
        Judge.model_validate({"url": "http://localhost/v1", "model": "m", **wrong})
    assert told in one_line(caught.value)
    assert "hush" not in str(caught.value)


def test_where_a_judge_is_does_not_matter() -> None:
    settings = [Judge(url="http://a/v1", model="m"), Judge(url="http://b", model="m", attempts=1)]
    assert settings[0].decisive() == settings[1].decisive()
    assert Judge(url="http://a/v1/chat/completions", model="m").url == "http://a/v1"


@pytest.mark.skipif("DOLLY_TEST_JUDGE" not in os.environ, reason="needs a real judge: URL MODEL")
def test_a_real_judge_replies() -> None:
    url, model = os.environ["DOLLY_TEST_JUDGE"].split()
    reply = ask(Judge(url=url, model=model, max_tokens=64))
    assert reply.model
    assert reply.completion_tokens
