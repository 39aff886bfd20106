"""Tables of both kinds are read alike, and nothing of a conversation is lost in one."""

from dolly_assets.conversations import Conversation, Message, ToolCall
from dolly_assets.conversations.tables import (
    EXCHANGE_SCHEMA,
    conversations,
    holds_conversations,
    prompts,
    table_of,
)
from dolly_assets.datasets import demo

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = ToolCall("weather", {"city": "Oslo", "days": 2, "hourly": False, "at": None}, id="c1")
LONG = Conversation(
    (
        Message("system", ""),
        Message("user", "And in Oslo?", context="A table."),
        Message("assistant", "I ask.", reasoning="A tool knows.", tool_calls=(CALL,)),
        Message("tool", '{"rain": 0.5}', tool_call_id="c1", name="weather"),
        Message("assistant", "It rains."),
    ),
    tools=(TOOL,),
    category="weather",
    source="made up",
    id="7",
)


def test_a_conversation_is_read_as_it_was_written() -> None:
    table = table_of([LONG, LONG.prompt])

    assert holds_conversations(table)
    assert list(conversations(table)) == [LONG, LONG.prompt]


def test_a_single_exchange_is_a_conversation_of_two_messages() -> None:
    table = demo.generate(examples=3)

    assert table.schema.equals(EXCHANGE_SCHEMA)
    for row, found in zip(table.to_pylist(), conversations(table), strict=True):
        assert found == Conversation.of_exchange(**row)
        assert [message.role for message in found.messages] == ["user", "assistant"]
    assert list(conversations(table_of(list(conversations(table))))) == list(conversations(table))


def test_the_prompt_is_what_precedes_the_last_answer() -> None:
    assert LONG.prompt.messages == LONG.messages[:-1]
    assert LONG.prompt.prompt.messages == LONG.messages[:2]
    assert LONG.prompt.prompt.prompt == LONG.prompt.prompt


def test_prompts_are_equal_only_if_what_the_model_is_shown_is() -> None:
    other = Conversation((*LONG.messages[:-1], Message("assistant", "Sun.")), tools=(TOOL,))
    first, second, third = prompts(table_of([LONG, other, Conversation(LONG.messages)]))

    assert first == second != third
    exchanges = demo.generate(examples=2)
    assert list(prompts(exchanges)) == [
        (row["instruction"], row["context"]) for row in exchanges.to_pylist()
    ]
