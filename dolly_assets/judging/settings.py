"""What a family's YAML declares of its judge. It opens no connection and reads no secret."""

from collections.abc import Mapping, Sequence
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue, model_validator

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.urls import check_no_password, without_secrets

DEFAULT_CRITERIA = (
    "whether it does what the request demands, whether it is correct, helpful and relevant, and "
    "whether it is as detailed as the request needs and no longer"
)
_OURS = ("model", "messages", "stream", "n")
_ENDPOINT = "/chat/completions"


def _checked_url(url: str) -> str:
    """Return a URL to which requests can be sent, without the end that the client adds itself."""
    try:
        check_no_password(url, "the URL")
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{without_secrets(url)!r} is no URL of a server: expected one such as "
            "http://localhost:11434/v1, to which /chat/completions can be appended"
        )
    if parts.query or parts.fragment:
        raise ValueError(
            f"{without_secrets(url)} was given with a query or fragment, which may hold a secret: "
            "remove it, and name the variable that holds the key with api_key: {env: NAME}"
        )
    return url.rstrip("/").removesuffix(_ENDPOINT)


class ApiKey(Config):
    """Where the key of a server is; never the key itself."""

    env: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="The environment variable that holds it where runs execute.",
    )


class Judge(Config):
    """A language model that compares answers, behind OpenAI's API."""

    url: Annotated[str, AfterValidator(_checked_url)] = Field(
        description="The server's base URL, such as http://localhost:11434/v1."
    )
    model: str = Field(min_length=1, description="The judge's name on that server.")
    api_key: ApiKey | None = Field(
        default=None, description="The environment variable with the key, if it needs one."
    )
    criteria: str = Field(
        default=DEFAULT_CRITERIA, min_length=1, description="What makes an answer better."
    )
    records: int = Field(
        default=100, ge=1, description="Number of prompts whose answers are judged, the first ones."
    )
    max_tokens: int = Field(
        default=512, ge=1, description="Length of the judge's longest reply, in tokens."
    )
    max_characters: int = Field(
        default=8_000,
        ge=1,
        description="Length to which a prompt and each answer are cut, so that all of them fit the "
        "judge's context.",
    )
    seed: int = Field(default=0, description="Sent with each request; another one asks again.")
    request: dict[str, JsonValue] = Field(
        default={},
        description="More keys of the request's body, or other values; null leaves a key out.",
    )
    most_not_understood: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the pairs above which there is no win rate because the judge's reply "
        "holds no verdict.",
    )
    concurrency: int = Field(default=4, ge=1, description="Number of requests at once.")
    timeout_seconds: float = Field(
        default=120, gt=0, description="How long the server may take to reply."
    )
    attempts: int = Field(
        default=5,
        ge=1,
        description="How often a request is sent to a server that is overloaded or cannot be "
        "reached.",
    )

    @model_validator(mode="after")
    def _request_keeps_what_is_ours(self) -> "Judge":
        if taken := sorted(self.request.keys() & set(_OURS)):
            raise ValueError(
                f"request.{taken[0]} cannot be set: it is decided here; expected other keys of the "
                "request's body, such as max_completion_tokens"
            )
        return self

    def decisive(self) -> dict[str, JsonValue]:
        """Return what determines the outcome, wherever the server is and however it is reached."""
        how = {"url", "api_key", "concurrency", "timeout_seconds", "attempts"}
        return self.model_dump(mode="json", exclude=how)

    def body(self, messages: Sequence[Mapping[str, str]]) -> dict[str, JsonValue]:
        """Return a request's body."""
        stated: dict[str, JsonValue] = {
            "temperature": 0,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            **self.request,
        }
        kept = {key: value for key, value in stated.items() if value is not None}
        return {"model": self.model, "messages": [{**message} for message in messages], **kept}
