"""What a family adds: whether its held-out examples or evaluation prompts are in its training data, and what is lost.

It knows numbers of records on either side, not how the split was made.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dolly_assets.datasets.quality.duplicates import near_pairs
from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Batch, Records, kernels
from dolly_assets.datasets.schema import SCHEMA

LONG_PROMPT_CHARACTERS = 100


@dataclass(frozen=True)
class Split:
    """Which records are trained on and which are held out; those on neither side were left out as too long."""

    train: np.ndarray
    held_out: np.ndarray


def leakage(records: Records, split: Split) -> tuple[QualityFinding, QualityFinding]:
    """Held-out prompts that training has too, in other cases or spacing at most; and records nearly the same as one,
    by a long prompt or by prompt and response together.
    """
    kept = Records(records.table.take(pa.array(np.concatenate([split.train, split.held_out]))))
    numbers = np.concatenate([split.train, split.held_out])
    is_held_out = np.arange(len(kept)) >= len(split.train)
    exact = _same_prompts(kept, is_held_out)
    near = {
        pair.later: pair
        for text_of in (_long_prompt, _example)
        for pair in near_pairs(kept, text_of, is_held_out)
        if pair.later not in exact
    }
    return (
        finding(
            "leakage_exact",
            len(split.held_out),
            (
                FlaggedRecord(
                    record=int(numbers[later]),
                    kind="same prompt",
                    excerpt=f"record {numbers[earlier]}",
                )
                for later, earlier in exact.items()
            ),
        ),
        finding(
            "leakage_near",
            len(split.held_out),
            (
                FlaggedRecord(
                    record=int(numbers[later]),
                    kind="similar",
                    excerpt=f"{pair.similarity:.0%} of record {numbers[pair.earlier]}",
                )
                for later, pair in sorted(near.items())
            ),
        ),
    )


def over_long(records: Records, split: Split) -> QualityFinding:
    """Records that are on neither side."""
    is_kept = np.zeros(len(records), dtype=bool)
    is_kept[split.train] = is_kept[split.held_out] = True
    hits = (
        FlaggedRecord(
            record=record,
            kind="too long",
            excerpt=excerpt(records.table["instruction"][record].as_py()),
        )
        for record in np.flatnonzero(~is_kept).tolist()
    )
    return finding("over_long", len(records), hits)


def evaluation_prompts(records: Records, prompts: Sequence[tuple[str, str]]) -> QualityFinding:
    """Instructions and contexts that every epoch is to answer, and that the dataset has already."""
    known = records.table.select(SCHEMA.names)
    asked = pa.Table.from_pylist(
        [
            {"instruction": instruction, "context": context, "response": "", "category": ""}
            for instruction, context in prompts
        ],
        schema=known.schema,
    )
    both = Records(pa.concat_tables([known, asked]))
    is_asked = np.arange(len(both)) >= len(records)
    same = {later: f"record {earlier}" for later, earlier in _same_prompts(both, is_asked).items()}
    near = {
        pair.later: f"{pair.similarity:.0%} of record {pair.earlier}"
        for pair in near_pairs(both, _long_prompt, is_asked)
    }
    hits = (
        FlaggedRecord(
            record=place - len(records),
            kind="same prompt" if place in same else "similar",
            excerpt=text,
        )
        for place, text in sorted((near | same).items())
    )
    return finding("evaluation_prompts", len(prompts), hits)


def folded(prompt: str) -> str:
    """A prompt without what makes no difference: case, kinds of white space, width, the mark at its end."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split()).rstrip(" .?!:;")


def _same_prompts(records: Records, is_query: np.ndarray) -> dict[int, int]:
    """Each query whose prompt one of the others has: its place -> the first such place."""
    first: dict[str, int] = {}
    asked: dict[int, str] = {}
    for batch in records.batches():
        for place, prompt in enumerate(batch.prompt.to_pylist(), batch.first):
            key = folded(prompt)
            if is_query[place]:
                asked[place] = key
            else:
                first.setdefault(key, place)
    return {place: first[key] for place, key in asked.items() if key in first}


def _long_prompt(batch: Batch) -> pa.Array:
    """The prompts; short ones, that are near each other by their template alone, empty."""
    is_long = kernels.greater_equal(kernels.utf8_length(batch.prompt), LONG_PROMPT_CHARACTERS)
    return kernels.if_else(is_long, batch.prompt, pa.scalar("", pa.large_string()))


def _example(batch: Batch) -> pa.Array:
    return batch.example
