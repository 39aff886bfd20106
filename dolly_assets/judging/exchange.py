"""What a judge was asked and what it replied, as it is kept: nothing is asked twice.

An exchange is named by its request, which holds the judge's settings, the prompt and both answers.
"""

from typing import NamedTuple, Self

import pyarrow as pa
from pydantic import JsonValue

from dolly_assets.core.hashing import canonical_json_digest
from dolly_assets.judging.client import Reply

EXCHANGES_FILE = "exchanges.parquet"
EXCHANGES_SCHEMA = pa.schema(
    {
        "request_digest": pa.string(),
        "system": pa.string(),
        "prompt": pa.string(),
        "reply": pa.string(),
        "model": pa.string(),  # as the server reports it
        "finish_reason": pa.string(),
        "prompt_tokens": pa.int64(),
        "completion_tokens": pa.int64(),
        "seconds": pa.float64(),
        "cut_characters": pa.int64(),
    }
)


class Exchange(NamedTuple):
    """A request and its reply, in the columns of EXCHANGES_SCHEMA."""

    request_digest: str
    system: str
    prompt: str
    reply: str
    model: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    cut_characters: int

    @classmethod
    def of(
        cls, digest: str, messages: list[dict[str, str]], cut_characters: int, reply: Reply
    ) -> Self:
        """Return the exchange of a request with that digest and those messages."""
        system, prompt = (message["content"] for message in messages)
        return cls(
            request_digest=digest,
            system=system,
            prompt=prompt,
            reply=reply.text,
            model=reply.model,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            seconds=reply.seconds,
            cut_characters=cut_characters,
        )


def request_digest(body: dict[str, JsonValue]) -> str:
    """Return what names an exchange: the SHA-256 of its request."""
    return canonical_json_digest(body)


def as_table(exchanges: list[Exchange]) -> pa.Table:
    """Return exchanges as a table."""
    return pa.Table.from_pylist([each._asdict() for each in exchanges], EXCHANGES_SCHEMA)


def exchanges_of(table: pa.Table) -> dict[str, Exchange]:
    """Return the exchanges of a table by their requests' digests."""
    rows = table.select(EXCHANGES_SCHEMA.names).to_pylist()
    return {row["request_digest"]: Exchange(**row) for row in rows}
