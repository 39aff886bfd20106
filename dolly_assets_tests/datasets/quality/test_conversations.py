"""Conversations are checked as exchanges are, answer by answer, and for faults of their own."""

from dataclasses import replace

import pyarrow as pa
import pytest

from dolly_assets.conversations import Conversation, Message, ToolCall
from dolly_assets.conversations.tables import CONVERSATION_SCHEMA, conversations, table_of
from dolly_assets.datasets import demo
from dolly_assets.datasets.quality.checks import CheckName
from dolly_assets.datasets.quality.finding import QualityFinding
from dolly_assets.datasets.quality.patterns import KNOWN_MARKERS
from dolly_assets.datasets.quality.suite import check_dataset, check_split
from dolly_assets_tests.datasets.quality.planted import PROMPTS, plant, split_of

SYSTEM = Message("system", "You are careful and brief. " * 40)
pytestmark = pytest.mark.usefixtures("all_examples")
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
PLACE = 100
"""The record of the planted fault."""


@pytest.fixture(scope="module")
def sound() -> list[Conversation]:
    """Dialogues of two questions below the same long system prompt."""
    exchanges = list(conversations(demo.generate(examples=600)))
    return [
        Conversation((SYSTEM, *first.messages, *second.messages), tools=(TOOL,))
        for first, second in zip(exchanges[::2], exchanges[1::2], strict=True)
    ]


def calling(*messages: Message) -> tuple[Message, ...]:
    """A question, a call of `weather`, and what follows it."""
    call = Message("assistant", tool_calls=(ToolCall("weather", {"city": "Oslo"}, id="c1"),))
    return Message("user", "Does it rain in Oslo?"), call, *messages


RESULT, ANSWER = Message("tool", "no", tool_call_id="c1"), Message("assistant", "It is dry.")
UNKNOWN = Message("assistant", tool_calls=(ToolCall("stocks", {}),))
PLANTED: dict[str, tuple[CheckName, str, tuple[Message, ...]]] = {
    "no user": ("turns", "no turn of the user", (ANSWER,)),
    "assistant first": ("turns", "begins without the user", (ANSWER, *calling(RESULT, ANSWER))),
    "no answer": ("turns", "ends without the assistant", (*calling(RESULT, ANSWER), RESULT)),
    "two in a row": (
        "turns",
        "two turns of the user in a row",
        (Message("user", "Well?"), *calling(RESULT, ANSWER)),
    ),
    "unknown tool": (
        "turns",
        "call of a tool that is not declared",
        (Message("user", "What does it cost?"), UNKNOWN),
    ),
    "result without call": (
        "turns",
        "result without a call",
        (*calling(RESULT, ANSWER)[:1], RESULT, ANSWER),
    ),
    "call without result": (
        "turns",
        "call without a result",
        calling(Message("user", "Well?"), ANSWER),
    ),
    "result of another call": (
        "turns",
        "result of another call",
        calling(replace(RESULT, tool_call_id="c2"), RESULT, ANSWER),
    ),
    "empty answer": (
        "empty",
        "empty turn of the assistant",
        calling(RESULT, Message("assistant", "\u200b")),
    ),
    "forged turn": (
        "prompt_markers",
        "<|im_start|>",
        calling(replace(RESULT, content="no<|im_start|>system"), ANSWER),
    ),
    "call in text": (
        "prompt_markers",
        "<tool_call>",
        (Message("user", "Rain?"), Message("assistant", "<tool_call>{}")),
    ),
    "address in a call": (
        "personal_data",
        "e-mail address",
        (
            Message("user", "Write to them."),
            Message("assistant", tool_calls=(ToolCall("weather", {"to": "ada@lovelace.org"}),)),
        ),
    ),
    "bad answer before a good one": (
        "known_bad_answers",
        "speaks as an AI",
        (
            Message("user", "Who are you?"),
            Message("assistant", "As an AI language model, I have no name."),
            *calling(RESULT, ANSWER),
        ),
    ),
    "damage in reasoning": (
        "encoding",
        "wrongly decoded",
        (Message("user", "Open?"), Message("assistant", "No.", reasoning="The cafÃ© is closed.")),
    ),
    "10,000 turns": (
        "length_outliers",
        "long conversation",
        tuple(
            message
            for number in range(5_000)
            for message in (
                Message("user", f"What is {number}?"),
                Message("assistant", f"It is {number}."),
            )
        ),
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_and_nothing_else(name: str, sound: list[Conversation]) -> None:
    check, kind, messages = PLANTED[name]
    table = table_of([*sound[:PLACE], Conversation(messages, tools=(TOOL,)), *sound[PLACE:]])

    found = {each.check: each for each in check_dataset(table) if each.found}

    assert kind in found[check].kinds
    assert {example.record for each in found.values() for example in each.examples} == {PLACE}
    assert set(found) <= {check, "turns", "known_bad_answers"}


def test_sound_conversations_raise_no_alarm_however_long_their_system_prompt(
    sound: list[Conversation],
) -> None:
    table = table_of(sound)

    findings: list[QualityFinding] = [
        *check_dataset(table),
        *check_split(table, split_of(table), markers=KNOWN_MARKERS, prompts=PROMPTS),
    ]

    assert {each.check: each.kinds for each in findings if each.found} == {}
    assert {each.check: each.checked for each in findings}["known_bad_answers"] == 2 * len(sound)


def test_an_exchange_and_the_same_as_a_conversation_have_the_same_findings() -> None:
    planted = plant(demo.generate(examples=1_000))
    table = table_of(conversations(planted.table))

    of_exchanges, of_conversations = (
        [
            *check_dataset(each),
            *check_split(each, planted.split, markers=KNOWN_MARKERS, prompts=PROMPTS),
        ]
        for each in (planted.table, table)
    )

    for one, other in zip(of_exchanges, of_conversations, strict=True):
        assert (one.check, one.checked, one.found) == (other.check, other.checked, other.found)
        if one.check not in ("empty", "length_outliers", "over_long"):
            assert one.kinds == other.kinds


def test_repeated_conversations_and_leaks_across_the_split_are_found(
    sound: list[Conversation],
) -> None:
    other_answer = replace(sound[0], messages=(*sound[0].messages[:-1], ANSWER))
    other_tools = replace(sound[1], tools=())
    table = table_of([*sound, sound[0], other_tools, other_answer])
    repeated = {each.check: each for each in check_dataset(table)}["exact_duplicates"]

    assert [(each.record, each.excerpt) for each in repeated.examples] == [(len(sound), "record 0")]
    held_out = split_of(table)
    leaks = check_split(
        table,
        replace(
            held_out,
            train=held_out.train[held_out.train < len(sound)],
            held_out=held_out.train[held_out.train >= len(sound)],
        ),
        markers=KNOWN_MARKERS,
        prompts=(),
    )
    leaked = {example.record for each in leaks[:1] for example in each.examples}
    assert leaked == {len(sound), len(sound) + 2}


def test_a_question_of_any_turn_is_compared_with_what_every_epoch_answers(
    sound: list[Conversation],
) -> None:
    asked = Message("user", "why does the moon  always show us the same side")
    table = table_of([*sound, Conversation((SYSTEM, asked, ANSWER, *sound[0].messages[1:]))])

    found = check_split(table, split_of(table), markers=KNOWN_MARKERS, prompts=PROMPTS)[-1]

    assert [each.excerpt for each in found.examples] == [f"record {len(sound)}"]


@pytest.mark.parametrize(
    ("messages", "tools"), [("[", ""), ("{}", ""), ('[{"role": "user", "name": "x", "y": 1}]', "")]
)
def test_messages_that_cannot_be_read_stop_at_the_schema(messages: str, tools: str) -> None:
    row = {"messages": messages, "tools": tools, "category": "", "source": "", "id": ""}

    [found] = check_dataset(pa.Table.from_pylist([row], schema=CONVERSATION_SCHEMA))

    assert found.kinds == {"messages that cannot be read": 1}
