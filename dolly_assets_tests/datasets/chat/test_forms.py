"""The same conversation in every form of chat data and every kind of file is read as the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.conversations import Conversation, Message, ToolCall
from dolly_assets.conversations.tables import conversations, table_of
from dolly_assets.datasets.formats import read_file
from dolly_assets.datasets.sources import read_source

FUNCTION = {
    "name": "weather",
    "description": "Weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TOOL = {"type": "function", "function": FUNCTION}
ARGUMENTS = {"city": "Oslo", "days": 2, "hourly": False, "from": 0.5, "at": None}
PLAIN = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "Which is\nlarger?"),
        Message("assistant", " Two. "),
        Message("user", "And of those?", context=""),
        Message("assistant", "Three.", reasoning="Three comes after two."),
    )
)
CALLING = Conversation(
    (
        Message("user", "Does it rain in Oslo?"),
        Message("assistant", tool_calls=(ToolCall("weather", ARGUMENTS),)),
        Message("tool", '{"rain": true}'),
        Message("assistant", "It does."),
    ),
    tools=(TOOL,),
)


def openai_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """As OpenAI's API has them, with arguments as JSON."""
    return [
        {
            "role": message.role,
            "content": message.content or None,
            **({"reasoning_content": message.reasoning} if message.reasoning else {}),
            **(
                {
                    "tool_calls": [
                        {
                            "type": "function",
                            "function": {
                                "name": call.name,
                                "arguments": json.dumps(call.arguments),
                            },
                        }
                        for call in message.tool_calls
                    ]
                }
                if message.tool_calls
                else {}
            ),
        }
        for message in conversation.messages
    ]


def sharegpt_turns(conversation: Conversation) -> list[dict[str, str]]:
    """As LLaMA-Factory has them, a call being a turn of its own."""
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    turns = []
    for message in conversation.messages:
        thought = f"<think>\n{message.reasoning}\n</think>\n\n" if message.reasoning else ""
        if message.content:
            turns.append({"from": names[message.role], "value": thought + message.content})
        for call in message.tool_calls:
            stated = {"name": call.name, "arguments": call.arguments}
            turns.append({"from": "function_call", "value": json.dumps(stated)})
    return turns


def as_messages(each: Conversation) -> dict[str, Any]:
    return {"messages": openai_messages(each), "tools": list(each.tools)}


def as_sharegpt(each: Conversation) -> dict[str, Any]:
    bare = [tool["function"] for tool in each.tools]
    return {"conversations": sharegpt_turns(each), "tools": json.dumps(bare)}


def as_prompt_completion(each: Conversation) -> dict[str, Any]:
    turns = openai_messages(each)
    return {"prompt": turns[:-1], "completion": turns[-1:], "tools": list(each.tools)}


def as_canonical(each: Conversation) -> dict[str, Any]:
    """As the platform stores it."""
    return table_of([each]).to_pylist()[0]


def as_alpaca(each: Conversation) -> dict[str, Any]:
    system, first, second, question, answer = each.messages
    return {
        "system": system.content,
        "history": [[first.content, second.content]],
        "instruction": question.content,
        "input": question.context,
        "output": f"<think>{answer.reasoning}</think>{answer.content}",
    }


def as_chatml(each: Conversation) -> dict[str, Any]:
    texts = [
        (message.role, f"<think>\n{message.reasoning}\n</think>\n\n{message.content}")
        if message.reasoning
        else (message.role, message.content)
        for message in each.messages
    ]
    return {"text": "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in texts)}


FORMS: dict[str, tuple[Callable[[Conversation], dict[str, Any]], list[Conversation]]] = {
    "messages": (as_messages, [PLAIN, CALLING]),
    "sharegpt": (as_sharegpt, [PLAIN, CALLING]),
    "prompt_completion": (as_prompt_completion, [PLAIN, CALLING]),
    "canonical": (as_canonical, [PLAIN, CALLING]),
    "alpaca": (as_alpaca, [PLAIN, PLAIN]),
    "chatml": (as_chatml, [PLAIN]),
}


def written(rows: list[dict[str, Any]], path: Path) -> Path:
    """Write records as the suffix of the path says."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet", ".arrow"])
@pytest.mark.parametrize("form", FORMS)
def test_a_conversation_is_the_same_in_every_form_and_file(
    form: str, suffix: str, tmp_path: Path
) -> None:
    as_record, expected = FORMS[form]
    path = written([as_record(each) for each in expected], tmp_path / f"a{suffix}")

    read = read_file(path, source="a")

    assert list(conversations(read.table)) == expected
    assert not [line for line in read.losses if not line.startswith("kept")]


def test_csv_holds_conversations_as_json(tmp_path: Path) -> None:
    row = {name: json.dumps(value) for name, value in as_messages(CALLING).items()}
    lines = ["\t".join(row), "\t".join(row.values())]
    (tmp_path / "a.tsv").write_text(
        "\n".join(
            "\t".join('"' + cell.replace('"', '""') + '"' for cell in line.split("\t"))
            for line in lines
        )
    )

    assert list(conversations(read_file(tmp_path / "a.tsv", source="a").table)) == [CALLING]


def test_what_is_known_of_a_record_is_kept_as_text(tmp_path: Path) -> None:
    row = {**as_messages(PLAIN), "id": 7, "source": "web", "category": "sums", "score": 1}
    path = written([row, {**row, "id": 7, "source": ["a"]}], tmp_path / "a.jsonl")

    read = read_file(path, source="a")

    assert [read.table[name].to_pylist() for name in ("id", "source", "category")] == [
        ["7", "7"],
        ["web", ""],
        ["sums", "sums"],
    ]
    assert read.dropped_columns == ("score",)
    assert read.losses == (
        "dropped the source, which is no text: 1 record, first in record 2 (line 2)",
        "kept an id that an earlier record has: 1 record, first in record 2 (line 2)",
    )


def test_alpaca_without_system_and_history_stays_single_exchanges(tmp_path: Path) -> None:
    row = {"system": "", "history": [], "instruction": "Add.", "input": "1, 2", "output": "3"}

    read = read_file(written([row], tmp_path / "a.jsonl"), source="a")

    assert read.table.column_names == ["instruction", "context", "response", "category"]
    assert read.dropped_columns == ("system", "history")


def test_a_folder_of_exchanges_and_conversations_becomes_conversations(tmp_path: Path) -> None:
    exchange = {"instruction": "Add.", "context": "1, 2", "response": "3", "category": "sums"}
    written([exchange], tmp_path / "a.jsonl")
    written([as_messages(PLAIN)], tmp_path / "b.jsonl")

    source = read_source(str(tmp_path))

    assert list(conversations(source.table)) == [
        Conversation.of_exchange("Add.", "1, 2", "3", "sums"),
        PLAIN,
    ]
    assert source.files == {"a.jsonl": 1, "b.jsonl": 1}


def test_complete_exchanges_come_before_conversations_which_is_stated(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "response": "3", **as_messages(PLAIN), "tools": None}

    read = read_file(written([row], tmp_path / "a.jsonl"), source="a")

    assert "instruction" in read.table.column_names
    assert read.losses == (
        "read the instructions and responses, and not the conversations in 'messages'",
    )


def test_a_prompt_beside_messages_is_only_dropped(tmp_path: Path) -> None:
    row = {"prompt": "Which is larger?", **as_messages(PLAIN)}

    read = read_file(written([row], tmp_path / "a.jsonl"), source="a")

    assert list(conversations(read.table)) == [PLAIN]
    assert read.dropped_columns == ("prompt",)


def test_keys_that_a_struct_cannot_leave_out_are_none(tmp_path: Path) -> None:
    calls = [
        [{"function": {"name": "a", "arguments": {"x": 1}}}],
        [{"function": {"name": "b", "arguments": {"y": "z"}}}],
    ]
    rows = [
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": call}]}
        for call in calls
    ]

    read = read_file(written(rows, tmp_path / "a.parquet"), source="a")

    found = [each.messages[1].tool_calls[0].arguments for each in conversations(read.table)]
    assert found == [{"x": 1}, {"y": "z"}]
