"""From rows of token ids to a padded micro-batch that trains on responses only."""

import numpy as np
import pyarrow as pa

from dolly_assets.training.collator import IGNORED_LABEL, ExampleDataset, PaddingCollator

TABLE = pa.table(
    {
        "input_ids": pa.array([[1, 2, 3, 4, 5], [6, 7, 8], [9, 10]], pa.list_(pa.int32())),
        "prompt_length": pa.array([2, 2, 1], pa.int32()),
    }
)
PAD = 99


def test_labels_are_the_responses_tokens_and_nothing_else() -> None:
    dataset = in_raw_order(TABLE)
    batch = PaddingCollator(PAD)(dataset)
    off = IGNORED_LABEL
    assert batch["labels"].tolist() == [[off, off, 3, 4, 5], [off, off, 8, off, off], [off, 10, off, off, off]]


def test_rows_are_padded_on_the_right_to_the_longest_of_their_micro_batch() -> None:
    dataset = in_raw_order(TABLE)
    batch = PaddingCollator(PAD)([dataset[1], dataset[2]])
    assert batch["input_ids"].tolist() == [[6, 7, 8], [9, 10, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert all(tensor.dtype.is_signed and tensor.dtype.itemsize == 8 for tensor in batch.values())


def test_a_pad_token_inside_an_example_is_a_token_like_any_other() -> None:
    table = pa.table({"input_ids": [[PAD, 1, PAD]], "prompt_length": [1]}).cast(TABLE.schema)
    batch = PaddingCollator(PAD)([in_raw_order(table)[0]])
    assert batch["attention_mask"].tolist() == [[1, 1, 1]]
    assert batch["labels"].tolist() == [[IGNORED_LABEL, 1, PAD]]


def test_an_epoch_has_whole_global_batches_and_counts_their_tokens() -> None:
    """Of a slice or a table of chunks too, as a memory-mapped split may be."""
    chunked = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    for table, rows in ((TABLE, 3), (TABLE.slice(1), 2), (chunked, 3)):
        dataset = ExampleDataset(table, global_batch_size=2, seed=0)
        assert len(dataset) == rows // 2 * 2
        assert dataset.real_tokens == sum(len(dataset[index][0]) for index in range(len(dataset)))


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    table = pa.table({"input_ids": [[row] for row in range(64)], "prompt_length": [0] * 64}).cast(TABLE.schema)

    def order(seed: int, epoch: int) -> list[int]:
        dataset = ExampleDataset(table, global_batch_size=8, seed=seed)
        dataset.set_epoch(epoch)
        return [int(dataset[index][0][0]) for index in range(len(dataset))]

    assert order(1, 3) == order(1, 3)
    assert sorted(order(1, 3)) == list(range(64))
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def in_raw_order(table: pa.Table) -> list[tuple[np.ndarray, int]]:
    """The dataset's examples, sorted back by their first token."""
    dataset = ExampleDataset(table, global_batch_size=1, seed=0)
    return sorted((dataset[index] for index in range(len(dataset))), key=lambda example: int(example[0][0]))
