"""The steps of several ranks, written as they end and read as one table."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dolly_assets.profiling.series.steplog import RANK_STEP_SCHEMA, StepLog, StepRecord, read_steps

STEP = StepRecord(
    step=1,
    epoch=1,
    rank=0,
    started_at=100.0,
    ended_at=101.0,
    data_seconds=0.1,
    forward_seconds=0.2,
    backward_seconds=0.3,
    optimizer_seconds=0.3,
    wait_seconds=0.1,
    real_tokens=90,
    processed_tokens=100,
    labelled_tokens=40,
    flops=1e9,
    peak_rank_memory_bytes=None,
    loss=2.5,
    learning_rate=1e-4,
)


def test_the_steps_of_all_ranks_are_one_table_by_step_and_rank(tmp_path: Path) -> None:
    steps = [
        replace(STEP, rank=rank, step=step, ended_at=100.0 + step)
        for rank in (1, 0)
        for step in (1, 2)
    ]
    logs = {rank: StepLog(tmp_path, rank) for rank in (0, 1)}
    for step in steps:
        logs[step.rank].append(step)  # and read while the files are open
    table = read_steps(tmp_path)
    assert table.schema == RANK_STEP_SCHEMA
    assert table.to_pylist() == [
        asdict(step) for step in sorted(steps, key=lambda step: (step.step, step.rank))
    ]
    assert [row["step"] for row in read_steps(tmp_path, 101.5, 102.0).to_pylist()] == [2, 2]


def test_a_torn_last_line_costs_only_itself(tmp_path: Path) -> None:
    StepLog(tmp_path, 0).append(STEP)
    with (tmp_path / "steps-00000.jsonl").open("a") as file:
        file.write('{"step": 2, "epo')
    StepLog(tmp_path, 0).append(replace(STEP, step=3))
    assert read_steps(tmp_path)["step"].to_pylist() == [1, 3]


def test_no_steps_are_an_empty_table(tmp_path: Path) -> None:
    table = read_steps(tmp_path)
    assert (table.num_rows, table.schema) == (0, RANK_STEP_SCHEMA)


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe\x00",
        b'{"step": 2, "\xff": 1}',
        b'{"step": 2, "\\ud800": 1}',
        b'{"step": 2, "rank": 0, "ended_at": 101, "epoch": 1.5}',
        b'{"step": 1e300, "rank": 0, "ended_at": 101}',
        b'{"step": 1' + b"0" * 400 + b', "rank": 0, "ended_at": 101}',
        b'{"step": NaN, "rank": 0, "ended_at": 101}',
        b'{"step": {"step": 2}, "rank": [0], "ended_at": 101}',
        b'{"ended_at": 101}',
        b"[" * 200_000,
        b'{"step":' * 100_000 + b"2" + b"}" * 100_000,
    ],
)
def test_a_damaged_line_costs_only_itself(tmp_path: Path, damage: bytes) -> None:
    """Not even the deep ones, on which Arrow's own parser ends the process."""
    StepLog(tmp_path, 0).append(STEP)
    with (tmp_path / "steps-00000.jsonl").open("ab") as file:
        file.write(damage + b"\n")
    StepLog(tmp_path, 0).append(replace(STEP, step=3))
    assert read_steps(tmp_path)["step"].to_pylist() == [1, 3]
