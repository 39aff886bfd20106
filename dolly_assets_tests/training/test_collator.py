"""From rows of token ids to a padded micro-batch that trains on responses only."""

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
    dataset = ExampleDataset(TABLE)
    batch = PaddingCollator(PAD)([dataset[index] for index in range(3)])
    off = IGNORED_LABEL
    assert batch["labels"].tolist() == [[off, off, 3, 4, 5], [off, off, 8, off, off], [off, 10, off, off, off]]


def test_rows_are_padded_on_the_right_to_the_longest_of_their_micro_batch() -> None:
    dataset = ExampleDataset(TABLE)
    batch = PaddingCollator(PAD)([dataset[1], dataset[2]])
    assert batch["input_ids"].tolist() == [[6, 7, 8], [9, 10, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert all(tensor.dtype.is_signed and tensor.dtype.itemsize == 8 for tensor in batch.values())


def test_a_pad_token_inside_an_example_is_a_token_like_any_other() -> None:
    table = pa.table({"input_ids": [[PAD, 1, PAD]], "prompt_length": [1]}).cast(TABLE.schema)
    batch = PaddingCollator(PAD)([ExampleDataset(table)[0]])
    assert batch["attention_mask"].tolist() == [[1, 1, 1]]
    assert batch["labels"].tolist() == [[IGNORED_LABEL, 1, PAD]]


def test_real_tokens_count_no_padding_whatever_part_of_a_table_it_is() -> None:
    """A slice and a table of chunks, as a memory-mapped split may be."""
    chunked = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    for table, lengths in ((TABLE, [5, 3, 2]), (TABLE.slice(1), [3, 2]), (chunked, [5, 3, 2])):
        dataset = ExampleDataset(table)
        assert len(dataset) == len(lengths)
        assert [len(dataset[index][0]) for index in range(len(dataset))] == lengths
        assert dataset.real_tokens == sum(lengths)
