"""Whether a model continues records of its training data verbatim.

The definition is that of Carlini et al., "Quantifying Memorization Across Neural Language Models"
(2023, https://arxiv.org/abs/2202.07646, definition 3.1): given the k tokens before them, the model
writes the record's next tokens when it decodes greedily. There a string has 50 tokens after a
prefix of 50 or more; most responses to instructions are shorter than that. Here the prefix is the
record's whole prompt, which is what the model was trained to answer, with the first PREFIX_TOKENS
of the response: they settle which of the many answers to the prompt is meant. What follows is
CONTINUATION_TOKENS long: a model that finds half of a text's tokens likeliest writes 16 in a row
by chance once in 65,000 times, and a response of 20 words is still long enough to be probed.

Tables have the columns of a tokenized dataset; the module knows neither checkpoints nor stores.
"""

import hashlib
import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from dolly_assets.generation.answer import answers_in_batches
from dolly_assets.scoring.memorization import MEMORIZATION_SCHEMA
from dolly_assets.storage.large_tables import select_rows
from dolly_assets.tokenization.labels import LabelRuns

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREFIX_TOKENS, CONTINUATION_TOKENS = 8, 16


class Sample(NamedTuple):
    """Records to be probed.

    Attributes:
        examples: One example of each, in the order of their hashes.
        too_short: How many other records have no response that is long enough.
    """

    examples: pa.Table
    too_short: int


def sample(table: pa.Table, *, records: int, seed: int) -> Sample:
    """Choose records that are long enough by a hash of seed and record number.

    So the sample does not depend on the order of the table, and added records hardly change it. Of
    a conversation that gave several examples, the one with the shortest prompt is taken.

    Args:
        table: Examples of a tokenized dataset.
        records: How many records to choose, at most.
        seed: Another seed chooses others.
    """
    numbers, prompts = table["record"].to_numpy(), table["prompt_length"].to_numpy()
    rows = np.lexsort((prompts, numbers))
    # One token more, which ends the response.
    rows = rows[_response_lengths(table)[rows] > PREFIX_TOKENS + CONTINUATION_TOKENS]
    found, first = np.unique(numbers[rows], return_index=True)
    row_of = dict(zip(found.tolist(), rows[first].tolist(), strict=True))
    chosen = heapq.nsmallest(records, row_of, key=lambda record: _key(seed, record))
    examples = select_rows(table, np.array([row_of[record] for record in chosen], np.int64))
    return Sample(examples, len(np.unique(numbers)) - len(found))


def probe(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    training: pa.Table,
    held_out: pa.Table,
    *,
    end_token_ids: Sequence[int],
    batch_size: int,
) -> pa.Table:
    """Return how a model continues records, as a table of MEMORIZATION_SCHEMA.

    Args:
        model: The model.
        tokenizer: The model's own.
        training: The sampled records that it was trained on.
        held_out: The control: records that it was not trained on.
        end_token_ids: The tokens that end an answer.
        batch_size: How many records to continue at once.
    """
    rows = [
        (row["record"], is_held_out, row["input_ids"], row["prompt_length"])
        for is_held_out, table in ((False, training), (True, held_out))
        for row in table.select(["record", "input_ids", "prompt_length"]).to_pylist()
    ]
    continuations = answers_in_batches(
        model,
        tokenizer,
        [ids[: start + PREFIX_TOKENS] for _, _, ids, start in rows],
        end_token_ids=end_token_ids,
        max_new_tokens=CONTINUATION_TOKENS,
        batch_size=batch_size,
    )
    probed = []
    for (record, is_held_out, ids, start), continuation in zip(rows, continuations, strict=True):
        given = start + PREFIX_TOKENS
        prompt, prefix, expected = tokenizer.batch_decode(
            [ids[:start], ids[start:given], ids[given : given + CONTINUATION_TOKENS]],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        is_reproduced = continuation == expected.strip() != ""
        values = (record, is_held_out, prompt, prefix, expected, continuation, is_reproduced)
        probed.append(dict(zip(MEMORIZATION_SCHEMA.names, values, strict=True)))
    return pa.Table.from_pylist(probed, MEMORIZATION_SCHEMA)


def _response_lengths(table: pa.Table) -> np.ndarray:
    """Return the tokens of each example's last labelled turn, which `prompt_length` precedes."""
    runs = LabelRuns.of(table)
    # The last run is labelled unless the number of runs is odd.
    return runs.values[runs.offsets[1:] - 1 - np.diff(runs.offsets) % 2]


def _key(seed: int, record: int) -> bytes:
    return hashlib.blake2b(f"{seed} {record}".encode(), digest_size=16).digest()
