"""From rows of token ids to micro-batches that train on responses only: packed, and padded."""

import numpy as np
import pyarrow as pa
import pytest

from dolly_assets.planning.rows import TrainingRows
from dolly_assets.tokenization.labels import LabelRuns
from dolly_assets.training.packing.batches import (
    MicroBatch,
    PackedRow,
    PackingCollator,
    PaddingCollator,
    RowDataset,
)

TABLE = pa.table(
    {
        "row": pa.array([0, 0, 1, 2], pa.int32()),
        "input_ids": pa.array(
            [[1, 2, 3, 4, 5], [6, 7, 8], [9, 10], [11, 12, 13]], pa.list_(pa.int32())
        ),
        "prompt_length": pa.array([2, 2, 1, 0], pa.int32()),
    }
)
LABELS = [3 + 1, 1, 2]  # of each row: a first token follows from nothing
TURNS = TABLE.append_column(
    "label_runs", pa.array([[1, 1, 2, 1], [0, 1, 2], [1, 1], [0, 3]], pa.list_(pa.int32()))
)
PAD = 99


def in_raw_order(table: pa.Table) -> list[PackedRow]:
    """The dataset's rows, sorted back by their first token."""
    dataset = RowDataset(table, global_batch_size=1, seed=0)
    return sorted(
        (dataset[index] for index in range(len(dataset))), key=lambda row: int(row.examples[0][0])
    )


def predictions(batch: MicroBatch) -> list[tuple[int, int]]:
    """Which token is predicted from which, in order."""
    keep = batch["logits_to_keep"]
    seen = batch["input_ids"][keep] if keep.ndim == 2 else batch["input_ids"][0, keep]
    return list(zip(seen.tolist(), batch["targets"].tolist(), strict=True))


@pytest.mark.parametrize(
    "collator", [PackingCollator(PAD), PackingCollator(PAD, 8), PaddingCollator(PAD)]
)
def test_labels_are_the_responses_tokens_each_predicted_from_the_one_before_in_its_example(
    collator: PackingCollator | PaddingCollator,
) -> None:
    batch = collator(in_raw_order(TABLE))
    assert predictions(batch) == [(2, 3), (3, 4), (4, 5), (7, 8), (9, 10), (11, 12), (12, 13)]
    assert batch["lengths"][: batch["examples"]] == (5, 3, 2, 3)


@pytest.mark.parametrize(
    "collator", [PackingCollator(PAD), PackingCollator(PAD, 8), PaddingCollator(PAD)]
)
def test_labels_are_those_of_all_turns_but_an_examples_first_token(
    collator: PackingCollator | PaddingCollator,
) -> None:
    found = in_raw_order(TURNS)
    assert predictions(collator(found)) == [(1, 2), (4, 5), (9, 10), (11, 12), (12, 13)]
    assert RowDataset(TURNS, global_batch_size=3, seed=0).labelled_tokens == 5
    assert TrainingRows.of(TURNS).row_labels.tolist() == [2, 1, 2]


def test_packed_rows_are_one_sequence_whose_positions_restart_in_each_example() -> None:
    batch = PackingCollator(PAD)(in_raw_order(TABLE))
    assert batch["input_ids"].tolist() == [list(range(1, 14))]
    assert batch.get("position_ids").tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 0, 1, 2]]  # pyright: ignore
    assert "attention_mask" not in batch


def test_a_packed_sequence_can_be_filled_up_by_an_example_without_labels() -> None:
    batch = PackingCollator(PAD, 8)(in_raw_order(TABLE))
    assert batch["input_ids"].tolist() == [[*range(1, 14), PAD, PAD, PAD]]
    assert batch["lengths"] == (5, 3, 2, 3, 3)
    assert batch["examples"] == len(batch["places"]) == len(batch["labels"]) == 4
    assert PackingCollator(PAD, 13)(in_raw_order(TABLE))["lengths"] == (5, 3, 2, 3)


def test_padded_examples_are_filled_on_the_right_to_the_longest_of_their_micro_batch() -> None:
    batch = PaddingCollator(PAD)(in_raw_order(TABLE)[1:])
    assert batch["input_ids"].tolist() == [[9, 10, PAD], [11, 12, 13]]
    assert batch.get("attention_mask").tolist() == [[1, 1, 0], [1, 1, 1]]  # pyright: ignore


@pytest.mark.parametrize("collator", [PackingCollator(PAD), PaddingCollator(PAD)])
def test_a_pad_token_inside_an_example_is_a_token_like_any_other(
    collator: PackingCollator | PaddingCollator,
) -> None:
    table = pa.table({"row": [0], "input_ids": [[PAD, 1, PAD]], "prompt_length": [1]}).cast(
        TABLE.schema
    )
    assert predictions(collator(in_raw_order(table))) == [(PAD, 1), (1, PAD)]


def test_an_epoch_has_whole_global_batches_and_each_row_knows_the_labels_of_its_own() -> None:
    """Of a slice or a table of chunks too, as a memory-mapped split may be."""
    for whole in (TABLE, TURNS):
        chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
        for table, rows in ((whole, 3), (whole.slice(2), 2), (chunked, 3)):
            dataset = RowDataset(table, global_batch_size=2, seed=0)
            assert len(dataset) == rows // 2 * 2
            found = [dataset[index] for index in range(len(dataset))]
            tokens = sum(len(example) for row in found for example in row.examples)
            assert dataset.real_tokens == tokens
            assert {row.global_labels for row in found} == {dataset.labelled_tokens}
            assert dataset.labelled_tokens == len(PackingCollator(PAD)(found)["targets"])
            check_labels_by_line(table, found)
    whole = RowDataset(TABLE, global_batch_size=3, seed=0)
    assert whole[0].global_labels == sum(LABELS)


def check_labels_by_line(table: pa.Table, rows: list[PackedRow]) -> None:
    """A batch knows of each example its line in the table, and how many targets are its."""
    labels = LabelRuns.of(table).predicted
    for batch in (PackingCollator(PAD, 8)(rows), PaddingCollator(PAD)(rows)):
        lines = batch["places"]
        tokens = [len(ids) for ids in table["input_ids"].take(pa.array(lines)).to_pylist()]
        assert batch["lengths"][: len(lines)] == tuple(tokens)
        assert batch["labels"] == tuple(labels[[*lines]].tolist())


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    table = pa.table(
        {"row": range(64), "input_ids": [[row] for row in range(64)], "prompt_length": [0] * 64}
    )

    def order(seed: int, epoch: int) -> list[int]:
        dataset = RowDataset(table.cast(TABLE.schema), global_batch_size=8, seed=seed)
        dataset.set_epoch(epoch)
        return [int(np.concatenate(dataset[index].examples)[0]) for index in range(len(dataset))]

    assert order(1, 3) == order(1, 3)
    assert sorted(order(1, 3)) == list(range(64))
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4
