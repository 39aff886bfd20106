"""A judge's server: one request at a time, repeated while the server is busy or out of reach.

The key is read from the environment when it is needed, sent to this server alone, and kept
out of error messages. Redirects are not followed.
"""

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, Field, JsonValue, ValidationError

from dolly_assets.core.errors import ConfigurationError, JudgeError
from dolly_assets.core.text import count, encodable, flat, one_line
from dolly_assets.core.urls import connection_failure, without_secrets
from dolly_assets.judging.settings import Judge

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

BUSY = (408, 429, 500, 502, 503, 504, 529)
LONGEST_WAIT_SECONDS = 60  # between attempts, whatever the server says
_CONNECT_SECONDS = 10
_MOST_BYTES = 4 * 2**20  # of a reply
_SHOWN = 200  # characters of what a server says about a failure


class Reply(NamedTuple):
    """What a judge replied.

    Attributes:
        text: Its reply; empty if it has said nothing.
        model: The model's name as the server reports it.
        finish_reason: Why it ended, such as `stop` or `length`.
        prompt_tokens: Tokens of the request, if the server counts them.
        completion_tokens: Tokens of the reply, if the server counts them.
        seconds: How long it took, attempts that failed included.
    """

    text: str
    model: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


class JudgeClient:
    """Sends requests to a judge.

    Args:
        judge: Where it is, and how long to wait for it.
        environment: Where its key is.

    Raises:
        ConfigurationError: The variable that it names for the key is not set.
    """

    def __init__(self, judge: Judge, environment: Mapping[str, str] = os.environ) -> None:
        self._judge = judge
        self._key = _key(judge, environment)
        self._session = _session(judge)

    def ask(self, body: Mapping[str, JsonValue]) -> Reply:
        """Send a request and return the reply.

        Raises:
            JudgeError: The server cannot be reached, is busy for too long, refuses, or replies with
                something else than a chat completion.
        """
        from requests import RequestException

        began_seconds = time.monotonic()
        try:
            with self._session.post(
                f"{self._judge.url}/chat/completions",
                json=body,
                auth=self._authorized,
                timeout=(min(_CONNECT_SECONDS, self._timeout), self._timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = self._content(response)
        except RequestException as error:
            raise JudgeError(f"{self._name} {self._why_no_reply(error)}") from error
        if response.status_code != 200:
            raise JudgeError(f"{self._name} {self._refusal(response, content)}")
        return self._reply(content, time.monotonic() - began_seconds)

    @property
    def _name(self) -> str:
        return f"the judge {self._judge.model} at {self._judge.url}"

    @property
    def _timeout(self) -> float:
        return self._judge.timeout_seconds

    def _authorized(self, request: "PreparedRequest") -> "PreparedRequest":
        """Add the key; without one, keep requests from adding what ~/.netrc holds."""
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _content(self, response: "Response") -> bytes:
        """Return the body, which may arrive byte by byte, or without end."""
        end_seconds, content = time.monotonic() + self._timeout, bytearray()
        for part in response.iter_content(2**14):
            content += part
            if len(content) > _MOST_BYTES:
                raise JudgeError(
                    f"{self._name} sent more than {_MOST_BYTES:,} bytes: expected a chat completion"
                )
            if time.monotonic() > end_seconds:
                raise JudgeError(f"{self._name} {self._too_slow}")
        return bytes(content)

    @property
    def _too_slow(self) -> str:
        return (
            f"has not replied within {self._timeout:g} s: raise evaluation.judge.timeout_seconds, "
            "or lower evaluation.judge.concurrency or max_tokens"
        )

    def _why_no_reply(self, error: Exception) -> str:
        from requests import Timeout
        from urllib3.exceptions import ReadTimeoutError

        cause = error.args[0] if error.args else error
        reason = getattr(cause, "reason", None) or cause
        if isinstance(error, Timeout) or isinstance(reason, ReadTimeoutError):
            return self._too_slow
        text = self._without_key(connection_failure(reason, _SHOWN))
        return f"cannot be reached: {text}; start it, or correct evaluation.judge.url"

    def _refusal(self, response: "Response", content: bytes) -> str:
        """Return why a server refuses, and what to do about it."""
        status, said = response.status_code, self._without_key(_said(content))
        answer = f"answered {status}{f' ({said})' if said else ''}"
        if status in (401, 403):
            key = self._judge.api_key
            todo = f"check the key in {key.env}" if key else "name its key with api_key: {env: …}"
        elif status == 404:
            todo = "check evaluation.judge.model, and evaluation.judge.url, which often ends in /v1"
        elif 300 <= status < 400:
            to = without_secrets(response.headers.get("Location", "another address"))
            todo = f"it redirects to {flat(encodable(to), _SHOWN)}: set evaluation.judge.url to it"
        elif status in BUSY:
            attempts = count(self._judge.attempts, "attempt")
            todo = f"it was busy or failing in {attempts}; run this again later"
        else:
            todo = "it may not accept a key of the body: leave it out with evaluation.judge.request"
        return f"{answer}: {todo}"

    def _reply(self, content: bytes, seconds: float) -> Reply:
        try:
            found = _Completion.model_validate_json(content)
        except ValidationError as error:
            said = self._without_key(flat(_text(content), _SHOWN))
            raise JudgeError(
                f"{self._name} replied with something else than a chat completion "
                f"({one_line(error, _SHOWN)}): {said or 'nothing'}; check evaluation.judge.url, "
                "which should be that of OpenAI's API"
            ) from error
        choice, usage = found.choices[0], found.usage or _Usage()
        return Reply(
            text=encodable(choice.message.content or ""),
            model=encodable(found.model or ""),
            finish_reason=encodable(choice.finish_reason or ""),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            seconds=seconds,
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    """What is read of a chat completion."""

    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: _Usage | None = None


def _key(judge: Judge, environment: Mapping[str, str]) -> str:
    if judge.api_key is None:
        return ""
    key = environment.get(judge.api_key.env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        found = "holds characters that no key has" if key else "is not set"
        raise ConfigurationError(
            f"evaluation.judge.api_key: the variable {judge.api_key.env} {found}: set it to the "
            "judge's key where runs execute"
        )
    return key


def _session(judge: Judge) -> "Session":
    """Return a session that sends a request again while the server is busy or out of reach."""
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(
        total=judge.attempts - 1,
        allowed_methods={"POST"},
        status_forcelist=BUSY,
        backoff_factor=1,
        backoff_max=LONGEST_WAIT_SECONDS,
        retry_after_max=LONGEST_WAIT_SECONDS,
        raise_on_status=False,
    )
    adapter = HTTPAdapter(pool_maxsize=judge.concurrency, max_retries=retry)
    session = Session()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _said(content: bytes) -> str:
    """Return what a server says about a failure: OpenAI's message, or the beginning of the text."""
    import json

    try:
        document: Any = json.loads(content)
    except ValueError:
        return flat(_text(content), _SHOWN)
    error = document.get("error", document) if isinstance(document, dict) else document
    message = error.get("message", error) if isinstance(error, dict) else error
    return flat(encodable(str(message)), _SHOWN)


def _text(content: bytes) -> str:
    return content[: 4 * _SHOWN].decode(errors="replace")
