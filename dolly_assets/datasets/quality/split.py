"""The checks that a family adds: leakage of held-out examples and prompts, and what is left out.

Knows the numbers of the records on either side, not how the split was made.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dolly_assets.core.text import percent
from dolly_assets.datasets.quality.arrow import kernels
from dolly_assets.datasets.quality.duplicates import TextOf, near_pairs
from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Batch, Records

LONG_PROMPT_CHARACTERS = 100


@dataclass(frozen=True)
class Split:
    """The records for training and the held-out ones; others were left out as too long."""

    train: np.ndarray
    held_out: np.ndarray


def leakage(records: Records, split: Split) -> tuple[QualityFinding, QualityFinding]:
    """Find held-out records that are also in the training data, exactly and nearly.

    An exact one has the same prompt, apart from case and spacing. A near one has a long prompt that
    is nearly the same, or a prompt and response that together are.
    """
    is_held_out, is_kept = np.zeros(len(records), bool), np.zeros(len(records), bool)
    is_held_out[split.held_out] = is_kept[split.held_out] = is_kept[split.train] = True
    exact = _same_prompts(records, is_held_out, is_kept)
    near = {
        pair.later: pair
        for text_of in (_long_prompt, _example)
        for pair in near_pairs(records, _only(text_of, is_kept), is_held_out)
        if pair.later not in exact
    }
    return (
        finding(
            "leakage_exact",
            len(split.held_out),
            (
                FlaggedRecord(
                    record=later,
                    kind="same prompt",
                    excerpt=f"record {earlier}",
                )
                for later, earlier in exact.items()
            ),
        ),
        finding(
            "leakage_near",
            len(split.held_out),
            (
                FlaggedRecord(
                    record=later,
                    kind="similar",
                    excerpt=f"{percent(pair.similarity)} of record {pair.earlier}",
                )
                for later, pair in sorted(near.items())
            ),
        ),
    )


def over_long(records: Records, split: Split) -> QualityFinding:
    """Find the records that are on neither side of the split."""
    is_kept = np.zeros(len(records), dtype=bool)
    is_kept[split.train] = is_kept[split.held_out] = True
    places = np.flatnonzero(~is_kept)
    kind = "left out" if records.of_conversations else "too long"
    hits = (
        FlaggedRecord(record=record, kind=kind, excerpt=excerpt(text.as_py()))
        for record, text in zip(places.tolist(), records.take(places).instruction, strict=True)
    )
    return finding("over_long", len(records), hits)


def evaluation_prompts(records: Records, prompts: Sequence[tuple[str, str]]) -> QualityFinding:
    """Find prompts for the samples of every epoch that the dataset already contains.

    Args:
        records: The raw dataset; of conversations, each question is compared.
        prompts: Instruction and context of each prompt.
    """
    known, numbers = records.exchanges()
    asked = pa.Table.from_pylist(
        [
            {"instruction": instruction, "context": context, "response": "", "category": ""}
            for instruction, context in prompts
        ],
        schema=known.schema,
    )
    both = Records(pa.concat_tables([known, asked]))
    is_asked = np.arange(len(both)) >= len(numbers)
    same = {
        later: f"record {numbers[earlier]}"
        for later, earlier in _same_prompts(both, is_asked, np.ones(len(both), bool)).items()
    }
    near = {
        pair.later: f"{percent(pair.similarity)} of record {numbers[pair.earlier]}"
        for pair in near_pairs(both, _long_prompt, is_asked)
    }
    hits = (
        FlaggedRecord(
            record=place - len(numbers),
            kind="same prompt" if place in same else "similar",
            excerpt=text,
        )
        for place, text in sorted((near | same).items())
    )
    return finding("evaluation_prompts", len(prompts), hits)


def folded(prompt: str) -> str:
    """Return a prompt without differences in case, white space, width and final punctuation."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split()).rstrip(" .?!:;")


def _same_prompts(
    records: Records, is_query: np.ndarray, is_compared: np.ndarray
) -> dict[int, int]:
    """Return each query whose prompt another record has: its place -> the first such place.

    Only the prompts of queries are in memory.
    """
    asked = {
        place: folded(batch.whole_prompt[place - batch.first].as_py())
        for batch in records.batches()
        for place in batch.places(is_query)
    }
    wanted, first = frozenset(asked.values()), dict[str, int]()
    for batch in records.batches():
        prompts = batch.whole_prompt.to_pylist()
        for place in batch.places(is_compared & ~is_query):
            key = folded(prompts[place - batch.first])
            if key in wanted:
                first.setdefault(key, place)
    return {place: first[key] for place, key in asked.items() if key in first}


def _only(text_of: TextOf, is_compared: np.ndarray) -> TextOf:
    """Return the texts of some records, with those of the others empty: like no other text."""

    def of_some(batch: Batch) -> pa.Array:
        is_in = pa.array(is_compared[batch.first : batch.first + len(batch)])
        return kernels.if_else(is_in, text_of(batch), pa.scalar("", pa.large_string()))

    return of_some


def _long_prompt(batch: Batch) -> pa.Array:
    """Return the prompts, with short ones empty: those are alike by their template alone."""
    is_long = kernels.greater_equal(kernels.utf8_length(batch.prompt), LONG_PROMPT_CHARACTERS)
    return kernels.if_else(is_long, batch.prompt, pa.scalar("", pa.large_string()))


def _example(batch: Batch) -> pa.Array:
    return batch.example
