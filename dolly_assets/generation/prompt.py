"""What a model is asked: an instruction, or a conversation that it continues."""

from typing import Any, Self

from pydantic import (
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from dolly_assets.conversations import Conversation, Message, Role, ToolCall
from dolly_assets.conversations.text import as_text
from dolly_assets.core.base import Config


class PromptCall(Config):
    """A tool call in a prompt."""

    name: str = Field(min_length=1, description="The function.")
    arguments: dict[str, JsonValue] = Field(default={}, description="Its arguments.")


class PromptMessage(Config):
    """A turn of a prompt that is a conversation."""

    role: Role = Field(description="Who speaks.")
    content: str = Field(default="", description="The text.")
    tool_calls: tuple[PromptCall, ...] = Field(
        default=(), description="Calls that the assistant made in this turn."
    )

    def message(self) -> Message:
        """Return it in the canonical form."""
        calls = tuple(ToolCall(call.name, call.arguments) for call in self.tool_calls)
        return Message(self.role, self.content, tool_calls=calls)


class Prompt(Config):
    """A prompt for a model, before it is laid out: an instruction, or the turns that precede."""

    instruction: str = Field(default="", description="The task.")
    context: str = Field(
        default="", description="Text that the task refers to, where the instruction is not enough."
    )
    system: str = Field(default="", description="What the model is told before the conversation.")
    messages: tuple[PromptMessage, ...] = Field(
        default=(),
        description="In place of an instruction: the turns of a conversation that the model "
        "continues. The last is the user's or a tool's.",
    )
    tools: tuple[dict[str, JsonValue], ...] = Field(
        default=(), description="Tools that the model may call, in OpenAI's form."
    )

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if bool(self.instruction) == bool(self.messages):
            raise ValueError(
                "a prompt has either an instruction or messages: found "
                f"{'both' if self.instruction else 'neither'}"
            )
        if self.messages and self.context:
            raise ValueError("context belongs to an instruction: put it into a message's content")
        if self.messages and self.messages[-1].role not in ("user", "tool"):
            raise ValueError(
                "the last message of a prompt must be the user's or a tool's, which the model "
                f"answers: found one of the {self.messages[-1].role}"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what a plain instruction has not, so that settings keep their digest."""
        fields = dump(self)
        optional = ("system", "messages", "tools")
        return {key: value for key, value in fields.items() if value or key not in optional}

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def conversation(self) -> Conversation:
        """The prompt in the canonical form."""
        system = [Message("system", self.system)] if self.system else []
        asked = [message.message() for message in self.messages]
        if self.instruction:
            asked = [Message("user", self.instruction, context=self.context)]
        return Conversation((*system, *asked), tools=self.tools)

    @property
    def text(self) -> str:
        """The prompt as its readers see it: the instruction and its context, or all turns."""
        return as_text(self.conversation)


DEFAULT_PROMPTS = (
    Prompt(
        instruction="Write a story about a person who cannot see the random forest "
        "because they are caught up in the decision trees."
    ),
    Prompt(
        instruction="Summarize the text in one sentence.",
        context="Coral reefs cover less than one percent of the ocean floor, yet about a quarter "
        "of all marine species live in them. They shelter coasts from storms and feed millions of "
        "people. Warmer water makes corals expel the algae that they live on, which leaves the "
        "reef white and, if the heat lasts, dead.",
    ),
    Prompt(instruction="Give me five ideas for a rainy Sunday with two small children."),
    Prompt(
        instruction="Is the review positive or negative? Answer with one word.",
        context="The battery died after two days and nobody answered my letters.",
    ),
    Prompt(instruction="Why does the moon always show us the same side?"),
)
