"""What cannot be read exactly is refused by record and line; what is changed is counted."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.conversations import Message
from dolly_assets.conversations.tables import conversations
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.formats import read_file
from dolly_assets.datasets.schema import CanonicalTable

USER = {"role": "user", "content": "Add 1 and 2."}
ANSWER = {"role": "assistant", "content": "3"}
GOOD = {"messages": [USER, ANSWER]}


def read(tmp_path: Path, *rows: Any) -> CanonicalTable:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return read_file(path, source="a.jsonl")


def calling(**call: Any) -> list[dict[str, Any]]:
    return [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f", **call}}]}]


def image(kind: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": kind}]}, ANSWER]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown role": (
        {"messages": [{"role": "Benutzer", "content": "?"}, ANSWER]},
        "message 1 of 'messages': unknown role 'Benutzer'; expected one of system, developer, user",
    ),
    "no role": ({"messages": [{"content": "?"}]}, "its role is missing; expected one of system"),
    "image": ({"messages": image("image_url")}, "a part of type 'image_url' (image): only text"),
    "audio": ({"messages": image("input_audio")}, "a part of type 'input_audio' (audio): only"),
    "unknown part": ({"messages": image("chart")}, "a part of type 'chart'; expected 'text'"),
    "images beside": ({**GOOD, "images": ["a.png"]}, "it has images: only text can be trained on"),
    "null content": (
        {"messages": [USER, {"role": "assistant", "content": None}]},
        "turn 2 (assistant) has no text; fill it in",
    ),
    "empty turn": (
        {"messages": [{"role": "user", "content": " \n"}, ANSWER]},
        "turn 1 (user) has no text",
    ),
    "content of another type": (
        {"messages": [{"role": "user", "content": 7}, ANSWER]},
        "message 1 of 'messages': its content is a number; expected a string",
    ),
    "no messages": ({"messages": None}, "'messages' is missing; fill it in or remove the record"),
    "messages of another type": (
        {"messages": {"role": "user"}},
        "'messages' is an object; expected a list of messages",
    ),
    "message of another type": (
        {"messages": ["Hello"]},
        "message 1 of 'messages': it is a string; expected an object with role and content",
    ),
    "messages that are no JSON": (
        {"messages": "[{'role': 'user'}]"},
        "the value of 'messages' is no JSON",
    ),
    "no assistant": (
        {"messages": [USER]},
        "no turn of the assistant, so there is nothing to learn",
    ),
    "preference": (
        {"conversations": [{"from": "human", "value": "?"}], "chosen": {"from": "gpt"}},
        "it is a preference ('chosen' and 'rejected'), which is not read",
    ),
    "tools that are no JSON": ({**GOOD, "tools": "search(x)"}, "the value of 'tools' is no JSON"),
    "tools of another type": ({**GOOD, "tools": 3}, "'tools' is a number; expected a list"),
    "tool without a name": ({**GOOD, "tools": [{"parameters": {}}]}, "tool 1 has no name"),
    "arguments that are no JSON": (
        {"messages": calling(arguments="city=Oslo")},
        "message 2 of 'messages': the value of the arguments of the call of 'f' is no JSON",
    ),
    "arguments that are no object": (
        {"messages": calling(arguments="[1]")},
        "the arguments of the call of 'f' are an array; expected an object",
    ),
    "key twice in arguments": (
        {"messages": calling(arguments='{"a": 1, "a": 2}')},
        "is broken JSON: an object has the key 'a' twice",
    ),
    "not a number": (
        {"messages": calling(arguments='{"x": NaN}')},
        "turn 2 has the number nan, which JSON does not have",
    ),
    "number that is too large": (
        {"messages": calling(arguments={"x": float("inf")})},
        "turn 2 has the number inf, which JSON does not have",
    ),
    "half of a surrogate pair": (
        {"messages": calling(arguments='{"x": "\\ud800"}')},
        "turn 2 has half of a surrogate pair",
    ),
    "call without a name": (
        {"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "1"}]}]},
        'a tool call has no name; expected an object such as {"name": "search"',
    ),
    "call that is no JSON": (
        {"conversations": [{"from": "human", "value": "?"}, {"from": "tool_call", "value": "f()"}]},
        "message 2 of 'messages': its tool call is no JSON",
    ),
    "call of the user": (
        {"messages": [{**USER, "tool_calls": [{"name": "f"}]}, ANSWER]},
        "it has 'tool_calls'; only the assistant can call tools",
    ),
    "two calls of one id": (
        {"messages": [USER, {"role": "assistant", "tool_calls": [{"name": "f", "id": "1"}] * 2}]},
        "two of its tool calls have the id '1'",
    ),
    "two kinds of reasoning": (
        {"messages": [USER, {**ANSWER, "reasoning": "a", "thinking": "b"}]},
        "its 'reasoning' and 'thinking' differ; keep one",
    ),
    "two system prompts": (
        {"messages": [{"role": "system", "content": "A"}, USER, ANSWER], "system": "B"},
        "the system prompt of its column and of its messages differ; keep one",
    ),
    "plain text": ({"text": "Once upon a time"}, "its text is not ChatML; expected <|im_start|>"),
    "text around ChatML": (
        {"text": "<|im_start|>user\n?<|im_end|>\nand <|im_start|>assistant\n!<|im_end|>"},
        "its text is not ChatML at character 29",
    ),
    "unclosed ChatML": (
        {"text": "<|im_start|>user\n?<|im_start|>assistant\n!<|im_end|>"},
        "its text is not ChatML at character 0",
    ),
    "tool calls in ChatML": (
        {"text": "<|im_start|>assistant\n<tool_call>{}</tool_call><|im_end|>\n"},
        "its text spells tool calls (<tool_call>), which are not read from ChatML",
    ),
    "history that is no pairs": (
        {"instruction": "?", "output": "!", "history": [["a"]]},
        "turn 1 of 'history' is no pair of a user's and an assistant's text",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_record_is_refused_by_its_number_and_line(name: str, tmp_path: Path) -> None:
    row, sentence = REFUSED[name]
    form = next(iter(row))
    first = {
        "messages": GOOD,
        "conversations": {"conversations": [{"from": "human", "value": "?"}, ANSWER]},
        "text": {"text": "<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n!<|im_end|>\n"},
        "instruction": {"instruction": "?", "output": "!"},
    }[form]

    with pytest.raises(DatasetError) as caught:
        read(tmp_path, first, row)

    assert str(caught.value).startswith("a.jsonl: record 2 (line 2): ")
    assert sentence in str(caught.value)


COUNTED: dict[str, tuple[list[dict[str, Any]], str, list[str]]] = {
    "developer": (
        [{"role": "developer", "content": "Be brief."}, USER, ANSWER],
        "read the role 'developer' as 'system': 1 message",
        ["system", "user", "assistant"],
    ),
    "turns after the last answer": (
        [USER, ANSWER, USER, {"role": "tool", "content": ""}],
        "dropped the turns after the assistant's last: 2 turns",
        ["user", "assistant"],
    ),
    "begins with the assistant": (
        [ANSWER, USER, ANSWER],
        "kept a beginning with the assistant: 1 conversation",
        ["assistant", "user", "assistant"],
    ),
    "two of one role": (
        [USER, USER, ANSWER],
        "kept two turns of one role in a row: 1 conversation",
        ["user", "user", "assistant"],
    ),
    "a key": (
        [USER, {**ANSWER, "toxicity": 0.1, "flags": []}],
        "dropped the key 'toxicity': 1 message",
        ["user", "assistant"],
    ),
    "a weight": (
        [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}],
        "weight 0, which is not kept, so that it is trained on like others: 1 message",
        ["user", "assistant"] * 2,
    ),
    "parts": (
        [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}, ANSWER],
        "joined the parts of a content with line breaks: 1 message",
        ["user", "assistant"],
    ),
    "an empty thought": (
        [USER, {"role": "assistant", "content": "<think>\n\n</think>\n\n3"}],
        "left out an empty <think></think>: 1 message",
        ["user", "assistant"],
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_what_a_source_loses_is_stated(name: str, tmp_path: Path) -> None:
    messages, line, roles = COUNTED[name]

    table = read(tmp_path, GOOD, {"messages": messages})

    assert table.losses == (f"{line}, first in record 2 (line 2)",)
    second = [*conversations(table.table)][1]
    assert [message.role for message in second.messages] == roles


def test_parts_and_results_are_kept_as_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    result = {"role": "function", "name": "f", "content": ""}
    table = read(tmp_path, {"messages": [{"role": "user", "content": parts}, result, ANSWER]})

    assert next(iter(conversations(table.table))).messages == (
        Message("user", "a\nb"),
        Message("tool", "", name="f"),
        Message("assistant", "3"),
    )


def test_a_million_different_keys_are_counted_and_not_listed(tmp_path: Path) -> None:
    rows = [{"messages": [USER, {**ANSWER, f"key {number}": 1}]} for number in range(100)]

    losses = read(tmp_path, *rows).losses

    assert len(losses) == 21
    assert losses[-1] == "other kinds: 80 times"


def test_ten_thousand_turns_are_a_conversation(tmp_path: Path) -> None:
    table = read(tmp_path, {"messages": [USER, ANSWER] * 5_000})

    assert len(next(iter(conversations(table.table))).messages) == 10_000


def test_two_columns_of_messages_are_ambiguous(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'messages', 'conversations' could each be"):
        read(tmp_path, GOOD, {"conversations": GOOD["messages"]})


@pytest.mark.parametrize("kind", ["plain", "dictionary"])
def test_text_that_is_not_utf_8_is_refused_by_record(kind: str, tmp_path: Path) -> None:
    good, bad = pa.array([b"user", b"assistant"] * 3), pa.array([b"a"] * 4 + [b"\xff", b"a"])
    texts = [array.view(pa.string()) for array in (good, bad)]
    values = pa.StructArray.from_arrays(texts, ["role", "content"])
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4, 6], pa.int32()), values)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"messages": lists}), path, use_dictionary=kind == "dictionary")

    expected = r"a\.parquet: record 3: the column 'messages' is not UTF-8 \(0xff, invalid start"
    with pytest.raises(DatasetError, match=expected):
        read_file(path, source="a.parquet")


def test_offsets_behind_text_that_is_not_utf_8_are_checked(tmp_path: Path) -> None:
    offsets, text = pa.array([0, 8, 4], pa.int32()).buffers()[1], pa.py_buffer(b"a" * 8)
    damaged = pa.StringArray.from_buffers(2, offsets, text)
    texts = [pa.array([b"\xff", b"a"]).view(pa.string()), damaged]
    values = pa.StructArray.from_arrays(texts, ["role", "content"])
    table = pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), values)})
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as stream:
        stream.write_table(table)

    with pytest.raises(DatasetError, match="not a readable Arrow file"):
        read_file(tmp_path / "a.arrow", source="a.arrow")


def test_a_small_file_that_expands_to_many_messages_is_refused(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a" * 10_000}, ANSWER] * 50
    pq.write_table(pa.Table.from_pylist([{"messages": messages}] * 2_000), tmp_path / "a.parquet")

    with pytest.raises(DatasetError, match=re.escape("expand to more than 67,108,864")):
        read_file(tmp_path / "a.parquet", source="a.parquet")
