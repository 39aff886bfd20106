"""Measure every quality check over 52,000 generated examples: seconds and peak memory.

    python benchmarks/quality.py [--examples 52000] [--conversations]

The examples consist of 30,000 made-up words in Zipf's proportions, with prompts of some 25 and
responses of some 110 words (Alpaca answered by GPT-4 has 860 bytes an example); one in fifty
repeats an earlier one, exactly or nearly. As conversations, every two are one of two questions. The
last line is the time of all checks together as a share of a minute, including the two that need a
split.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from dolly_assets.conversations import Conversation
from dolly_assets.conversations.tables import EXCHANGE_SCHEMA, conversations, table_of
from dolly_assets.datasets.quality import (
    content,
    dialogue,
    duplicates,
    encoding,
    language,
    patterns,
    personal_data,
    split,
)
from dolly_assets.datasets.quality.records import Records
from dolly_assets.generation.prompt import DEFAULT_PROMPTS

WORDS, PROMPT_WORDS, RESPONSE_WORDS = 30_000, 25, 110
HELD_OUT = 1_000
MINUTE_SECONDS = 60


def generated(examples: int) -> pa.Table:
    """Return a canonical table; equal calls give equal tables."""
    rng = np.random.default_rng(0)
    syllables = np.array([first + vowel for first in "bdfghklmnprstvwz" for vowel in "aeiou"])
    words = np.array(["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(WORDS)])

    def text(mean: int) -> str:
        chosen = words[(rng.zipf(1.3, max(1, rng.poisson(mean))) - 1) % WORDS]
        return " ".join(chosen).capitalize() + "."

    rows: list[dict[str, str]] = []
    for _ in range(examples):
        row = {
            "instruction": text(PROMPT_WORDS),
            "context": "",
            "response": text(RESPONSE_WORDS),
            "category": "",
        }
        if rows and rng.random() < 0.02:
            row = dict(rows[int(rng.integers(len(rows)))])
            row["response"] += rng.choice(["", " So it is."])
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=EXCHANGE_SCHEMA)


def dialogues(table: pa.Table) -> pa.Table:
    """Return every two exchanges as a conversation."""
    exchanges = list(conversations(table))
    return table_of(
        Conversation((*first.messages, *second.messages))
        for first, second in zip(exchanges[::2], exchanges[1::2], strict=False)
    )


def main() -> None:
    """Run every check on its own and print its time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=52_000)
    parser.add_argument("--conversations", action="store_true")
    arguments = parser.parse_args()
    table = generated(arguments.examples)
    if arguments.conversations:
        table = dialogues(table)
    records = Records(table)
    order = np.random.default_rng(1).permutation(len(records))
    sides = split.Split(train=np.sort(order[HELD_OUT:]), held_out=np.sort(order[:HELD_OUT]))
    prompts = [(prompt.instruction, prompt.context) for prompt in DEFAULT_PROMPTS]
    checks: dict[str, Callable[[], Any]] = {
        "schema": lambda: content.schema(table),
        "turns": lambda: dialogue.turns(records),
        "empty": lambda: (dialogue.empty_turns if arguments.conversations else content.empty)(
            records
        ),
        "exact and near duplicates": lambda: duplicates.duplicates(records),
        "prompt markers": lambda: patterns.prompt_markers(records),
        "encoding": lambda: encoding.encoding(records),
        "language": lambda: language.language(records),
        "known bad answers": lambda: patterns.known_bad_answers(records),
        "length outliers": lambda: content.length_outliers(records),
        "personal data": lambda: personal_data.personal_data(records),
        "exact and near leakage": lambda: split.leakage(records, sides),
        "over-long": lambda: split.over_long(records, sides),
        "evaluation prompts": lambda: split.evaluation_prompts(records, prompts),
    }
    print(f"{len(records):,} examples, {table.nbytes / 1e6:.0f} MB")
    before_bytes = _peak_bytes()
    total_seconds = 0.0
    for name, check in checks.items():
        began = time.perf_counter()
        found = check()
        seconds = time.perf_counter() - began
        total_seconds += seconds
        counts = ", ".join(
            f"{each.found:,} found" for each in (found if isinstance(found, tuple) else (found,))
        )
        print(f"{name:<28} {seconds:7.2f} s   {counts}")
    print(
        f"{'all':<28} {total_seconds:7.2f} s   "
        f"{(_peak_bytes() - before_bytes) / 1e6:.0f} MB more memory at the peak"
    )
    name = "quality.conversations" if arguments.conversations else "quality"
    print(f"ratio {name}.seconds_of_60 {total_seconds / MINUTE_SECONDS:.3f}")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
