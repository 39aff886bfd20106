"""Verbatim continuation, on a model that has learnt some records by heart."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from dolly_assets.generation.memorization import (
    CONTINUATION_TOKENS,
    PREFIX_TOKENS,
    probe,
    sample,
)
from dolly_assets.scoring.memorization import memorization
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets_tests.generation.conftest import tiny_model
from dolly_assets_tests.generation.examples import held_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RESPONSES = (
    "the quick brown fox jumps over the lazy dog",
    "a kettle began to sing as the rain came down",
    "six ladders lean on the wall behind the barn",
    "nobody answered the letters from the harbour",
)
OTHERS = tuple(response[::-1] for response in RESPONSES)
END = PromptStyle().end_key


@pytest.fixture(scope="module")
def table(tokenizer: Any) -> pa.Table:
    """Records of which the first half is learnt by heart, and the second never seen."""
    names = [f"Name {number}" for number in range(8)]
    return held_out(tokenizer, names, [*RESPONSES, *OTHERS])


@pytest.fixture(scope="module")
def learnt(tokenizer: Any, table: pa.Table) -> "PreTrainedModel":
    import torch

    model = tiny_model("llama", len(tokenizer), seed=1)
    rows = table.slice(0, 4).to_pylist()
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])
    labels = torch.full_like(ids, -100)
    for at, row in enumerate(rows):
        start, end = row["prompt_length"], len(row["input_ids"])
        labels[at, start:end] = ids[at, start:end]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    return model.eval()


def test_what_was_learnt_by_heart_is_reproduced_and_what_was_not_seen_is_not(
    learnt: "PreTrainedModel", tokenizer: Any, table: pa.Table
) -> None:
    """As transformers continues one record at a time, token by token."""
    import torch

    probed = probe(
        learnt,
        tokenizer,
        table.slice(0, 4),
        table.slice(4),
        end_token_ids=[tokenizer.convert_tokens_to_ids(END)],
        batch_size=3,
    )
    alone = []
    for row in table.to_pylist():
        given = row["prompt_length"] + PREFIX_TOKENS
        ids = row["input_ids"]
        with torch.no_grad():
            continued = learnt.generate(  # pyright: ignore[reportCallIssue]
                torch.tensor([ids[:given]]), do_sample=False, max_new_tokens=CONTINUATION_TOKENS
            )
        alone.append(continued[0, given:].tolist() == ids[given : given + CONTINUATION_TOKENS])
    assert probed["is_reproduced"].to_pylist() == alone == [True] * 4 + [False] * 4
    assert probed["continuation"][0].as_py() in RESPONSES[0]
    assert probed["prefix"].to_pylist()[0] == "the quick"
    found = memorization(probed)
    assert (found.training.value, found.held_out.value, found.above.value) == (1.0, 0.0, 1.0)
    assert found.sentence.startswith("Reproduced verbatim: 100.0 % of 4 training records (95 % ")


def test_the_sample_does_not_depend_on_the_order_and_leaves_short_responses_out(
    tokenizer: Any,
) -> None:
    texts = [RESPONSES[number % 4] if number % 3 else "yes" for number in range(30)]
    table = held_out(tokenizer, [f"Name {number}" for number in range(30)], texts)
    turned = table.take(list(reversed(range(30))))
    chosen = [sample(each, records=8, seed=1) for each in (table, turned)]
    assert chosen[0].examples.equals(chosen[1].examples)
    assert [each.too_short for each in chosen] == [10, 10]
    records = chosen[0].examples["record"].to_pylist()
    assert len(set(records)) == 8
    assert all(record % 3 for record in records)
    assert sample(table, records=8, seed=2).examples["record"].to_pylist() != records
    assert sample(table, records=100, seed=1).examples.num_rows == 20
