"""Pairs of answers, each judged in both orders; a verdict that depends on the order is a tie."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import JsonValue

from dolly_assets.judging.client import Reply
from dolly_assets.judging.exchange import Exchange, request_digest
from dolly_assets.judging.prompt import Asked, Question, messages
from dolly_assets.judging.settings import Judge
from dolly_assets.judging.verdict import verdict_of
from dolly_assets.storage.flow import in_parallel

Preference = Literal["new", "base", "tie"]
Result = Literal["win", "loss", "tie", "not_understood"]
VERDICTS_FILE = "verdicts.parquet"
VERDICTS_SCHEMA = pa.schema(
    {
        "record": pa.string(),
        "prompt": pa.string(),
        "base_answer": pa.string(),
        "new_answer": pa.string(),
        "base_first": pa.string(),  # new, base or tie; null where the reply holds no verdict
        "new_first": pa.string(),
        "result": pa.string(),  # win, loss, tie or not_understood
        "base_first_request": pa.string(),  # null where the answers are equal: nothing was asked
        "new_first_request": pa.string(),
        "base_first_reply": pa.string(),
        "new_first_reply": pa.string(),
    }
)
"""One line per pair, in the order of the records."""
_BASE_FIRST: Mapping[str, Preference] = {"A": "base", "B": "new", "tie": "tie"}
_NEW_FIRST: Mapping[str, Preference] = {"A": "new", "B": "base", "tie": "tie"}


class Pair(NamedTuple):
    """Two answers to a question: the base model's, and that of the model that is judged."""

    question: Question
    base: str
    new: str

    @property
    def is_equal(self) -> bool:
        """Whether the answers are the same, so that there is nothing to ask."""
        return self.base.strip() == self.new.strip()


class Orders(NamedTuple):
    """What was asked of a pair, with the base model's answer first, and with the other first."""

    base_first: Exchange
    new_first: Exchange


class Request(NamedTuple):
    """A request that is ready to be sent, with its digest."""

    digest: str
    asked: Asked
    body: dict[str, JsonValue]


def ask_in_both_orders(
    judge: Judge,
    ask: Callable[[dict[str, JsonValue]], Reply],
    pairs: list[Pair],
    known: dict[str, Exchange],
) -> int:
    """Ask what is not known yet of pairs, in parallel, and return how many requests that were.

    Args:
        judge: The settings.
        ask: Sends a request to the judge.
        pairs: The pairs.
        known: Exchanges by their requests' digests; what is asked is added, also before an error.
    """
    wanted = {
        request.digest: request
        for pair in pairs
        if not pair.is_equal
        for request in requests(judge, pair)
        if request.digest not in known
    }

    def exchange(request: Request) -> None:
        digest, (sent, cut), body = request
        known[digest] = Exchange.of(digest, sent, cut, ask(body))

    in_parallel(exchange, wanted.values(), judge.concurrency)
    return len(wanted)


def requests(judge: Judge, pair: Pair) -> tuple[Request, Request]:
    """Return the requests of a pair, with the base model's answer first and second."""

    def request(first: str, second: str) -> Request:
        asked = messages(
            pair.question,
            first,
            second,
            criteria=judge.criteria,
            max_characters=judge.max_characters,
        )
        body = judge.body(asked.messages)
        return Request(request_digest(body), asked, body)

    return request(pair.base, pair.new), request(pair.new, pair.base)


def orders_of(judge: Judge, pair: Pair, known: Mapping[str, Exchange]) -> Orders | None:
    """Return the exchanges of a pair; None if the answers are equal.

    Raises:
        KeyError: One was not asked.
    """
    if pair.is_equal:
        return None
    base_first, new_first = requests(judge, pair)
    return Orders(known[base_first.digest], known[new_first.digest])


def verdicts(pairs: list[Pair], orders: list[Orders | None]) -> pa.Table:
    """Return the table of VERDICTS_SCHEMA."""
    rows = [_row(*each) for each in zip(pairs, orders, strict=True)]
    return pa.Table.from_pylist(rows, VERDICTS_SCHEMA)


def _row(pair: Pair, orders: Orders | None) -> dict[str, Any]:
    row = {
        "record": pair.question.record,
        "prompt": pair.question.text,
        "base_answer": pair.base,
        "new_answer": pair.new,
    }
    if orders is None:
        return {**row, "base_first": "tie", "new_first": "tie", "result": "tie"}
    base_first = _BASE_FIRST.get(verdict_of(orders.base_first.reply) or "")
    new_first = _NEW_FIRST.get(verdict_of(orders.new_first.reply) or "")
    return {
        **row,
        "base_first": base_first,
        "new_first": new_first,
        "result": _result(base_first, new_first),
        "base_first_request": orders.base_first.request_digest,
        "new_first_request": orders.new_first.request_digest,
        "base_first_reply": orders.base_first.reply,
        "new_first_reply": orders.new_first.reply,
    }


def _result(base_first: Preference | None, new_first: Preference | None) -> Result:
    if base_first is None or new_first is None:
        return "not_understood"
    if base_first != new_first or base_first == "tie":
        return "tie"
    return "win" if base_first == "new" else "loss"
