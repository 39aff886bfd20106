"""The first records of a table as Markdown: by column, but conversations turn by turn."""

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from dolly_assets.conversations import Conversation, Message
from dolly_assets.conversations.tables import (
    conversations,
    holds_conversations,
    holds_preferences,
)
from dolly_assets.conversations.text import as_text
from dolly_assets.core.markdown import markdown_table
from dolly_assets.core.text import count

RECORDS = 5
MOST_TURNS = 8


def sample_markdown(table: pa.Table) -> str:
    """Return the first records of a table of any form."""
    first = table.slice(0, RECORDS)
    if holds_preferences(table):
        return _preferences_markdown(first)
    if not holds_conversations(table):
        return markdown_table(first.column_names, [[*row.values()] for row in first.to_pylist()])
    rows = [
        (str(record), speaker, text)
        for record, conversation in enumerate(conversations(first))
        for speaker, text in _turns(conversation.messages)
    ]
    return markdown_table(("record", "role", "text"), rows)


def _preferences_markdown(table: pa.Table) -> str:
    rows = [
        (as_text(Conversation.from_json(prompt, "", "", "", "")), chosen, rejected)
        for prompt, chosen, rejected in zip(
            *(table[name].to_pylist() for name in ("prompt", "chosen", "rejected")), strict=True
        )
    ]
    return markdown_table(("prompt", "chosen", "rejected"), rows)


def _turns(messages: tuple[Message, ...]) -> Iterator[tuple[str, str]]:
    """Yield who speaks and what, of the first turns."""
    for message in islice(messages, MOST_TURNS):
        if message.reasoning:
            yield f"{message.role}, reasoning", message.reasoning
        if message.text or not message.tool_calls:
            yield message.role, message.text
        for call in message.tool_calls:
            yield f"{message.role}, call", call.text
    if (others := len(messages) - MOST_TURNS) > 0:
        yield "", f"and {count(others, 'more turn')}"
