"""The checks that only preferences have: equal answers, contradictions, one-sided choices.

Their texts are checked like those of other records: an exchange of prompt, rejected and chosen
answer stands for a preference.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property

import pyarrow as pa

from dolly_assets.conversations import Conversation
from dolly_assets.conversations.tables import EXCHANGE_SCHEMA
from dolly_assets.conversations.text import as_text
from dolly_assets.core.text import percent
from dolly_assets.datasets.quality.arrow import kernels
from dolly_assets.datasets.quality.content import NO_VISIBLE_CHARACTER
from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Records

ENOUGH_VOTES = 10
"""Fewer votes on two models show nothing about them."""
ONE_SIDED = 0.95
"""Share of the votes above which nearly all prefer the same model."""
LEVEL = 0.001
"""Probability below which a preference for the left or the right answer is no chance."""


class Preferences:
    """A table of preferences that passed the check of its schema."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.num_rows

    @cached_property
    def records(self) -> Records:
        """The preferences as exchanges, for the checks that all texts have."""
        columns = {
            "instruction": pa.chunked_array([[*map(_prompt_text, self._prompts())]], pa.string()),
            "context": self._table["rejected"],
            "response": self._table["chosen"],
            "category": pa.chunked_array([[""] * len(self)], pa.string()),
        }
        return Records(pa.table(columns, schema=EXCHANGE_SCHEMA))

    def _prompts(self) -> list[str]:
        return self._table["prompt"].to_pylist()

    def texts(self, *names: str) -> Iterable[tuple[str, ...]]:
        """Return some columns, row by row, without white space around them."""
        columns = ([text.strip() for text in self._table[name].to_pylist()] for name in names)
        return zip(*columns, strict=True)


def _prompt_text(messages: str) -> str:
    return as_text(Conversation.from_json(messages, "", "", "", ""))


def empty_answers(preferences: Preferences) -> QualityFinding:
    """Find answers without a visible character."""
    hits = (
        FlaggedRecord(record=batch.first + place, kind=f"empty {name}", excerpt=excerpt(""))
        for batch in preferences.records.batches()
        for name, texts in (("chosen", batch.response), ("rejected", batch.context))
        for place, is_empty in enumerate(
            kernels.match_substring_regex(texts, NO_VISIBLE_CHARACTER).to_pylist()
        )
        if is_empty
    )
    return finding("empty", len(preferences), hits)


def equal_answers(preferences: Preferences) -> QualityFinding:
    """Find preferences of an answer to itself."""
    hits = (
        FlaggedRecord(record=record, kind="equal", excerpt=excerpt(chosen))
        for record, (chosen, rejected) in enumerate(preferences.texts("chosen", "rejected"))
        if chosen == rejected
    )
    return finding("equal_answers", len(preferences), hits)


def contradictions(preferences: Preferences) -> QualityFinding:
    """Find preferences that an earlier one contradicts: the same answers, the other chosen."""
    return finding("contradictions", len(preferences), _contradicting(preferences))


def _contradicting(preferences: Preferences) -> Iterator[FlaggedRecord]:
    first: dict[tuple[str, ...], int] = {}
    for record, (prompt, chosen, rejected) in enumerate(
        preferences.texts("prompt", "chosen", "rejected")
    ):
        earlier = first.get((prompt, rejected, chosen))
        if earlier is not None and chosen != rejected:
            yield FlaggedRecord(record=record, kind="contradicts", excerpt=f"record {earlier}")
        first.setdefault((prompt, chosen, rejected), record)


def one_sided(preferences: Preferences) -> QualityFinding:
    """Find votes that hardly depend on the answers.

    Nearly all of those on two models prefer the same one: such a dataset teaches which model wrote
    an answer. Or the answers on one side were preferred more often than chance would do: whoever
    voted did not read both.
    """
    hits = [*_by_model(preferences), *_by_side(preferences)]
    return finding("one_sided", len(preferences), hits)


def _by_model(preferences: Preferences) -> Iterator[FlaggedRecord]:
    won: dict[frozenset[str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for record, pair in enumerate(preferences.texts("chosen_model", "rejected_model")):
        if all(pair) and len(set(pair)) == 2:
            won[frozenset(pair)][pair[0]].append(record)
    for of_pair in won.values():
        votes = sum(map(len, of_pair.values()))
        model, records = max(of_pair.items(), key=lambda item: len(item[1]))
        if votes >= ENOUGH_VOTES and len(records) > ONE_SIDED * votes:
            share = f"{model} in {percent(len(records) / votes)} of {votes}"
            for record in records:
                yield FlaggedRecord(record=record, kind="one model", excerpt=share)


def _by_side(preferences: Preferences) -> Iterator[FlaggedRecord]:
    of_side: dict[str, list[int]] = {"left": [], "right": []}
    for record, (side,) in enumerate(preferences.texts("chosen_side")):
        if side in of_side:
            of_side[side].append(record)
    votes = sum(map(len, of_side.values()))
    side, records = max(of_side.items(), key=lambda item: len(item[1]))
    if votes >= ENOUGH_VOTES and _chance_of(len(records), votes) < LEVEL:
        share = f"{side} in {percent(len(records) / votes)} of {votes}"
        for record in records:
            yield FlaggedRecord(record=record, kind="one side", excerpt=share)


def _chance_of(most: int, votes: int) -> float:
    """Return the probability that fair coins show one side at least that often."""
    ways = sum(math.comb(votes, heads) for heads in range(most, votes + 1))
    return min(1.0, 2 * ways / 2**votes)
