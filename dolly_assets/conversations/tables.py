"""Tables of examples: conversations, or single exchanges in four columns, both read alike.

A single exchange (Dolly, Alpaca) is a conversation of a user's message and an assistant's. It is
stored in columns of its own, as it always was, so that artifacts keep their digests. Preferences
have a table of their own: their records are no examples to learn answers from.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import pyarrow as pa

from dolly_assets.conversations.conversation import Conversation
from dolly_assets.conversations.text import as_text

EXCHANGE_SCHEMA = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("instruction", "context", "response", "category")
    ]
)
"""Single exchanges: all strings, never null; `context` and `category` may be empty."""

CONVERSATION_SCHEMA = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("messages", "tools", "category", "source", "id")
    ]
)
"""Conversations: `messages` and `tools` are JSON, so that arguments keep their types. All but
`messages` may be empty."""

COLUMNS = {
    "instruction": "The task.",
    "context": "What the task is about; may be empty.",
    "response": "The answer to learn.",
    "category": "Kind of task; may be empty.",
    "messages": "The turns of a conversation, as JSON.",
    "tools": "The tools that the assistant may call, as JSON in OpenAI's form; may be empty.",
    "source": "Where the record comes from; may be empty.",
    "prompt": "The messages that both models answered, as JSON.",
    "chosen": "The answer that was preferred.",
    "rejected": "The other answer.",
    "chosen_model": "The model of the preferred answer and its digest; may be empty.",
    "rejected_model": "The model of the other answer and its digest; may be empty.",
    "chosen_side": "Where the preferred answer was shown, left or right; may be empty.",
    "id": "The record's identifier at its source; may be empty.",
}
"""What the columns of all forms hold."""


PREFERENCE_SCHEMA = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in (
            "prompt",
            "chosen",
            "rejected",
            "chosen_model",
            "rejected_model",
            "chosen_side",
            "id",
        )
    ]
)
"""Preferences: `prompt` is the JSON of messages; what is known of the models may be empty."""

Form = Literal["exchanges", "conversations", "preferences"]
SCHEMAS: dict[Form, pa.Schema] = {
    "exchanges": EXCHANGE_SCHEMA,
    "conversations": CONVERSATION_SCHEMA,
    "preferences": PREFERENCE_SCHEMA,
}


def holds_conversations(table: pa.Table) -> bool:
    """Whether a table has the columns of conversations."""
    return "messages" in table.column_names


def holds_preferences(table: pa.Table) -> bool:
    """Whether a table has the columns of preferences."""
    return "rejected" in table.column_names


def form_of(table: pa.Table) -> Form:
    """Return what the records of a table are, by its columns."""
    if holds_preferences(table):
        return "preferences"
    return "conversations" if holds_conversations(table) else "exchanges"


def schema_of(table: pa.Table) -> pa.Schema:
    """Return the schema of a table's form."""
    return SCHEMAS[form_of(table)]


def row_of(conversation: Conversation) -> dict[str, str]:
    """Return a conversation as a row of a table with CONVERSATION_SCHEMA."""
    return {
        "messages": conversation.messages_json(),
        "tools": conversation.tools_json(),
        "category": conversation.category,
        "source": conversation.source,
        "id": conversation.id,
    }


def table_of(conversations: Iterable[Conversation]) -> pa.Table:
    """Return conversations as a table with CONVERSATION_SCHEMA."""
    return pa.Table.from_pylist([*map(row_of, conversations)], schema=CONVERSATION_SCHEMA)


def conversations(table: pa.Table, *, batch_records: int = 1024) -> Iterator[Conversation]:
    """Yield the conversations of a table of either kind, in order."""
    schema = schema_of(table)
    for batch in table.select(schema.names).to_batches(max_chunksize=batch_records):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if schema is EXCHANGE_SCHEMA:
                instruction, context, response, category = row
                yield Conversation.of_exchange(instruction, context, response, category)
            else:
                yield Conversation.from_json(*row)


def prompts(table: pa.Table) -> Iterator[tuple[str, str]]:
    """Yield the prompt of each example, in two texts that differ wherever prompts do.

    They are instruction and context; of a conversation what precedes the assistant's last message,
    and the tools.
    """
    if not holds_conversations(table):
        for batch in table.select(["instruction", "context"]).to_batches(max_chunksize=1024):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
        return
    for conversation in conversations(table):
        yield conversation.prompt.messages_json(), conversation.tools_json()


def prompt_and_answer_texts(table: pa.Table) -> Iterator[tuple[str, str]]:
    """Yield the text of each example's prompt, and that of the answer to it, for readers.

    The prompt is all that precedes the assistant's last message.
    """
    for conversation in conversations(table):
        prompt = conversation.prompt
        answer = conversation.messages[len(prompt.messages) :]
        yield as_text(prompt), answer[0].text if answer else ""
