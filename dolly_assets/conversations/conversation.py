"""Messages and conversations, and their canonical form as JSON.

The names of keys are those of OpenAI's chat format, which chat templates read
(https://platform.openai.com/docs/api-reference/chat), with two exceptions: `context`, what an
instruction is about, which Dolly's and Alpaca's layouts show apart from it; and the arguments of a
tool call, which are an object and not its JSON, as chat templates expect them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class ToolCall:
    """A call that the assistant makes.

    Attributes:
        name: The function.
        arguments: Its arguments, with their types.
        id: What the tool's result refers to, if the source states one.
    """

    name: str
    arguments: Mapping[str, Any]
    id: str = ""

    @property
    def text(self) -> str:
        """The call as its readers see it."""
        return f"{self.name}({json.dumps(dict(self.arguments), ensure_ascii=False)})"


@dataclass(frozen=True)
class Message:
    """A turn of a conversation.

    Attributes:
        role: Who speaks.
        content: The text; empty where an assistant only calls tools.
        context: Of a user's message, what the content is about.
        reasoning: Of an assistant's message, what it thought before it answered.
        tool_calls: Of an assistant's message, the calls that follow the text.
        tool_call_id: Of a tool's message, the call that it answers, if the source states one.
        name: Of a tool's message, the function, if the source states it.
    """

    role: Role
    content: str = ""
    context: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """The content, and below it the context if there is one."""
        return f"{self.content}\n\n{self.context}" if self.context else self.content

    def as_json(self) -> dict[str, Any]:
        """Return the message without its empty fields, the content excepted."""
        calls = [
            {"name": call.name, "arguments": call.arguments, **({"id": call.id} if call.id else {})}
            for call in self.tool_calls
        ]
        optional = {
            "context": self.context,
            "reasoning": self.reasoning,
            "tool_calls": calls,
            "tool_call_id": self.tool_call_id,
            "name": self.name,
        }
        stated = {key: value for key, value in optional.items() if value}
        return {"role": self.role, "content": self.content, **stated}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the message that `as_json` wrote."""
        calls = tuple(ToolCall(**call) for call in fields.get("tool_calls", ()))
        return cls(**{**fields, "tool_calls": calls})


@dataclass(frozen=True)
class Conversation:
    """An example: its messages, and what is known of the record.

    Attributes:
        messages: The turns, in order.
        tools: The tools that the assistant may call, in OpenAI's form.
        category: Kind of task; may be empty.
        source: Where the record comes from, if the source states it.
        id: The record's identifier, if the source states one.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    category: str = ""
    source: str = ""
    id: str = ""

    @classmethod
    def of_exchange(
        cls, instruction: str, context: str = "", response: str | None = None, category: str = ""
    ) -> Self:
        """Return an instruction with its response, or alone, as a conversation."""
        messages = [Message("user", instruction, context=context)]
        if response is not None:
            messages.append(Message("assistant", response))
        return cls(tuple(messages), category=category)

    @property
    def prompt(self) -> "Conversation":
        """The conversation up to the assistant's last message; all of it if there is none."""
        places = [at for at, message in enumerate(self.messages) if message.role == "assistant"]
        return replace(self, messages=self.messages[: places[-1]]) if places else self

    def messages_json(self) -> str:
        """Return the messages as canonical JSON: equal conversations give equal text."""
        return _canonical([message.as_json() for message in self.messages])

    def tools_json(self) -> str:
        """Return the tools as canonical JSON; empty without tools."""
        return _canonical(list(self.tools)) if self.tools else ""

    @classmethod
    def from_json(
        cls, messages: str, tools: str, category: str, source: str, identifier: str
    ) -> Self:
        """Return the conversation that `messages_json` and `tools_json` wrote."""
        return cls(
            tuple(Message.from_json(fields) for fields in json.loads(messages)),
            tuple(json.loads(tools)) if tools else (),
            category=category,
            source=source,
            id=identifier,
        )


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
