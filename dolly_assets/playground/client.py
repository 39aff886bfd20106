"""Which models a server has, and their answers token by token, through OpenAI's API.

It knows the client library and its errors, and turns each into one sentence. What is asked is the
business of `conversation`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from dolly_assets.core.base import Config
from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import flat
from dolly_assets.core.urls import LOOPBACK

if TYPE_CHECKING:
    from openai import OpenAI

_NO_TOKEN = "none"  # noqa: S105 what the library sends where a server wants none
_CONNECT_SECONDS = 10.0
_SILENT_SECONDS = 600.0  # a model may have to be loaded before its first token
_SHOWN = 400  # characters of what a server states of a failure


class AnswerError(DollyError):
    """A model does not answer, or not to its end."""


class ServedModel(NamedTuple):
    """A model that can be asked.

    Attributes:
        name: What the server calls it.
        artifact: The artifact that it is, if the server states it.
        digest: The digest of its checkpoint.
        epoch: Its epoch; 0 is the base model.
        stage: The stage that it is in, if it is served as one.
    """

    name: str
    artifact: str = ""
    digest: str = ""
    epoch: int | None = None
    stage: str | None = None

    @property
    def address(self) -> str:
        """The artifact with its digest; of a server that states none, the name."""
        return f"{self.artifact}@{self.digest}" if self.digest else self.name


class Sampling(Config):
    """How tokens are chosen."""

    temperature: float = Field(default=0.7, ge=0, le=2, description="0 is the likeliest answer.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Share of likely tokens that count.")
    max_tokens: int = Field(default=256, ge=1, description="Length of the longest answer.")
    seed: int = Field(default=0, ge=0, description="Equal seeds give equal answers.")


@dataclass(frozen=True)
class Models:
    """The models of a server.

    Attributes:
        url: Where its API is, such as `http://127.0.0.1:8000/v1`.
        token: What it wants to be shown, if it does.
    """

    url: str
    token: SecretStr | None = None

    @cached_property
    def _client(self) -> "OpenAI":
        from openai import DefaultHttpxClient, OpenAI, Timeout

        is_here = urlsplit(self.url).hostname in LOOPBACK
        return OpenAI(
            base_url=self.url,
            api_key=self.token.get_secret_value() if self.token else _NO_TOKEN,
            timeout=Timeout(_SILENT_SECONDS, connect=_CONNECT_SECONDS),
            max_retries=0,
            http_client=DefaultHttpxClient(trust_env=not is_here),  # no proxy to this machine
        )

    def all(self) -> list[ServedModel]:
        """Return the models that can be asked, in the server's order.

        Raises:
            AnswerError: The server does not list them.
        """
        from openai import OpenAIError

        try:
            return [_served(each.id, each.model_extra or {}) for each in self._client.models.list()]
        except OpenAIError as error:
            raise AnswerError(self._explanation(error)) from error

    def answer(
        self, model: str, messages: Sequence[Mapping[str, str]], sampling: Sampling
    ) -> Iterator[str]:
        """Yield an answer, piece by piece.

        Raises:
            AnswerError: The server refuses, cannot be reached, or ends before the answer.
        """
        from httpx2 import HTTPError
        from openai import OpenAIError

        is_finished = False
        asked: dict[str, Any] = {"model": model, "messages": messages, **sampling.model_dump()}
        try:
            stream: Any = self._client.chat.completions.create(**asked, stream=True)
            with stream:
                for chunk in stream:
                    for choice in chunk.choices:
                        if choice.delta.content:
                            yield choice.delta.content
                        is_finished |= choice.finish_reason is not None
        except (OpenAIError, HTTPError) as error:
            raise AnswerError(self._explanation(error)) from error
        if not is_finished:
            raise AnswerError(self._broken())

    def _explanation(self, error: Exception) -> str:
        """Return what happened, and what to do, in a sentence."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError, AuthenticationError

        if isinstance(error, APITimeoutError):
            return f"{self.url} does not answer: it may be loading models, so ask again later"
        if isinstance(error, APIConnectionError):
            return f"{self.url} cannot be reached: start it again, or correct --server"
        if isinstance(error, AuthenticationError):
            return f"{self.url} wants another token: name a file with it in --token-file"
        if isinstance(error, APIStatusError):
            return _stated(error)
        return self._broken()

    def _broken(self) -> str:
        return f"{self.url} ended in the middle of the answer: start it again, and ask again"


def _served(name: str, more: Mapping[str, Any]) -> ServedModel:
    stated = more.get("dolly")
    known = stated if isinstance(stated, Mapping) else {}
    wanted = {key: known[key] for key in ServedModel._fields[1:] if known.get(key) is not None}
    return ServedModel(name, **wanted)


def _stated(error: Any) -> str:
    """Return what a server states of a request that it refuses."""
    body = error.body if isinstance(error.body, Mapping) else {}
    return flat(str(body.get("message") or error.message), _SHOWN)
