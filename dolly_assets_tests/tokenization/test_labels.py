"""Runs of labels: read from their column, or derived from the prompts where there is none."""

import random
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from dolly_assets.core.errors import DatasetError
from dolly_assets.tokenization.labels import LABEL_RUNS, LabelRuns, token_mask


def table_of(runs: list[list[int]]) -> pa.Table:
    return pa.table(
        {
            "input_ids": pa.array([[7] * sum(each) for each in runs], pa.list_(pa.int32())),
            LABEL_RUNS.name: pa.array(runs, LABEL_RUNS.type),
        }
    )


def random_runs(count: int) -> list[list[int]]:
    generator = random.Random(3)
    found = []
    for _ in range(count):
        length = generator.randint(1, 30)
        ends = sorted(generator.sample(range(length), generator.randint(0, min(length, 6))))
        found.append([end - begin for begin, end in pairwise([0, *ends, length])])
    return found


def labels_of(runs: list[int]) -> list[bool]:
    return [bool(turn % 2) for turn, length in enumerate(runs) for _ in range(length)]


def test_without_a_column_the_tokens_after_the_prompt_are_labelled() -> None:
    table = pa.table(
        {
            "input_ids": pa.array([[1, 2, 3], [4], [5, 6]], pa.list_(pa.int32())),
            "prompt_length": pa.array([2, 0, 2], pa.int32()),
        }
    )
    runs = LabelRuns.of(table)
    assert [runs[example].tolist() for example in range(3)] == [[2, 1], [0, 1], [2, 0]]
    assert runs.labelled.tolist() == [1, 1, 0]
    assert runs.predicted.tolist() == [1, 0, 0]
    assert runs.turns.tolist() == [1, 1, 0]


@pytest.mark.parametrize("part", [slice(None), slice(17, 60), slice(99, 100)])
def test_counts_and_masks_are_those_of_each_token_also_of_slices_and_chunks(part: slice) -> None:
    expected = random_runs(100)[part]
    whole = pa.concat_tables(
        [table_of(random_runs(100)).slice(0, 40), *[table_of(random_runs(100)).slice(40)]]
    )
    runs = LabelRuns.of(whole.slice(part.start or 0, len(expected)))
    assert [runs[example].tolist() for example in range(len(expected))] == expected
    assert runs.labelled.tolist() == [sum(labels_of(each)) for each in expected]
    assert runs.predicted.tolist() == [sum(labels_of(each)[1:]) for each in expected]
    assert runs.turns.tolist() == [len([1 for n in each[1::2] if n]) for each in expected]
    mask = token_mask([np.array(each, np.int32) for each in expected])
    assert mask.tolist() == [
        is_label for each in expected for is_label in (False, *labels_of(each)[1:])
    ]


def test_runs_of_another_length_than_the_ids_are_refused_by_example() -> None:
    table = table_of([[1, 2], [2, 3]])
    ids = pa.array([[1, 2, 3], [4]], pa.list_(pa.int32()))
    with pytest.raises(DatasetError, match=r"example 1 .* has 1 token ids and label_runs \[2, 3\]"):
        LabelRuns.of(table.set_column(0, "input_ids", ids))
