"""What a client may ask: OpenAI's requests, as far as they are served.

A key that is unknown is refused, and so is one whose effect would be missing: nothing that was
requested is ignored, other than what has no effect on answers (`user`, `metadata`, `store`).
https://platform.openai.com/docs/api-reference/chat/create
"""

from http import HTTPStatus
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator
from pydantic_core import from_json

from dolly_assets.conversations import Conversation, Message
from dolly_assets.core.text import count
from dolly_assets.generation.dialogue import as_turn
from dolly_assets.serving.errors import ApiError

_MOST_STOPS = 4  # as OpenAI allows
_MOST_PROMPTS = 64  # of one request for completions
_DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class TextPart(_Body):
    """A part of a message's content; images and sound are not served."""

    type: Literal["text"]
    text: str


class ChatMessage(_Body):
    """A message of a conversation.

    Attributes:
        context: What a user's message refers to, as in a dataset; not of OpenAI's API.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] = ""
    context: str = ""
    name: str = ""
    tool_call_id: str = ""

    def message(self) -> Message:
        """Return it in the canonical form."""
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        if self.role == "assistant":
            return as_turn(text)
        if self.role == "tool":
            return Message("tool", text, tool_call_id=self.tool_call_id, name=self.name)
        role = "system" if self.role == "developer" else self.role
        return Message(role, text, context=self.context)


class StreamOptions(_Body):
    """Options of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(_Body):
    """The form of an answer: text."""

    type: Literal["text"]


class _Request(_Body):
    """What both kinds of requests share.

    Keys with a single value are accepted, since clients state them, and mean what they say.
    """

    model: str
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: list[str] = []
    n: Literal[1] = 1
    frequency_penalty: float = Field(default=0.0, ge=0, le=0)
    presence_penalty: float = Field(default=0.0, ge=0, le=0)
    logit_bias: dict[str, float] = Field(default={}, max_length=0)
    user: str = ""

    @field_validator("stop", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _are_few(cls, value: list[str]) -> list[str]:
        if len(value) > _MOST_STOPS or not all(value):
            raise ValueError(f"expected at most {_MOST_STOPS} texts, none empty")
        return value


class ChatRequest(_Request):
    """A request for the next message of a conversation."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: Literal[False] = False
    tools: list[JsonValue] = Field(default=[], max_length=0)
    tool_choice: Literal["none", "auto"] = "none"
    response_format: ResponseFormat = ResponseFormat(type="text")
    metadata: dict[str, str] = {}
    store: bool = False

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, value: list[ChatMessage]) -> list[ChatMessage]:
        if value[-1].role not in ("user", "tool"):
            raise ValueError(
                "the last message must be the user's or a tool's, which the model answers: found "
                f"one of the {value[-1].role}"
            )
        return value

    @property
    def conversation(self) -> Conversation:
        """The messages in the canonical form."""
        return Conversation(tuple(each.message() for each in self.messages))

    @property
    def most_tokens(self) -> int | None:
        """The limit of the answer that the client states, if it does."""
        stated = self.max_completion_tokens
        return self.max_tokens if stated is None else stated


class CompletionRequest(_Request):
    """A request for what follows a text, or each of several."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int = Field(default=_DEFAULT_COMPLETION_TOKENS, ge=1)
    best_of: Literal[1] = 1
    echo: Literal[False] = False
    logprobs: Literal[0] | None = None
    suffix: Literal[""] = ""

    @field_validator("prompt")
    @classmethod
    def _is_some(cls, value: Any) -> Any:
        if not value or not all(value if isinstance(value, list) and not _are_ids(value) else [1]):
            raise ValueError("expected a text, or several, none empty")
        if isinstance(value, list) and not _are_ids(value) and len(value) > _MOST_PROMPTS:
            raise ValueError(f"expected at most {count(_MOST_PROMPTS, 'prompt')}")
        return value

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if _are_ids(self.prompt) else [*self.prompt]  # pyright: ignore[reportReturnType, reportUnknownVariableType]

    @property
    def most_tokens(self) -> int:
        """The limit of the answer."""
        return self.max_tokens


RequestT = TypeVar("RequestT", bound=_Request)


def parse(kind: type[RequestT], body: bytes) -> RequestT:
    """Return a request from its body; a key whose value is null counts as unset.

    Raises:
        ApiError: It is not JSON, or a key is wrong.
    """
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ApiError("the body is not a JSON object")
    try:
        return kind.model_validate(_without_nulls(found))
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> ApiError:
    """Return the refusal of a request whose key is wrong: the first that is."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(
        str(part) for part in problem["loc"] if not str(part).startswith(("list[", "str"))
    )
    if problem["type"] == "extra_forbidden":
        text = f"{key}: this server does not know it"
    elif problem["type"] == "missing":
        text = f"{key}: it is required"
    else:
        text = f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    return ApiError(text, HTTPStatus.BAD_REQUEST, param=key or None, code="invalid_value")


def _without_nulls(value: Any) -> Any:
    """Return a request without the keys whose value is null, in its messages too."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _are_ids(prompt: Any) -> bool:
    return isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], int)
