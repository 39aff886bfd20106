"""The part of an epoch that is done, through its file and as an earlier version wrote it."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.profiling.series.steplog import STEP_SCHEMA
from dolly_assets.training.loop.example_losses import EXAMPLE_LOSSES_SCHEMA
from dolly_assets.training.loop.meter import StepTotals
from dolly_assets.training.loop.progress import LOSSES_FILE, PROGRESS_FILE, Progress

STEP = {
    "step": 7,
    "epoch": 2,
    "loss": 1.5,
    "learning_rate": 1e-3,
    "grad_norm": None,
    "started_at": 10.0,
    "ended_at": 12.0,
    "data_seconds": 0.1,
    "forward_seconds": 0.5,
    "backward_seconds": 1.0,
    "optimizer_seconds": 0.3,
    "wait_seconds": 0.1,
    "real_tokens": 90,
    "processed_tokens": 100,
    "labelled_tokens": 40,
    "flops": 1e9,
    "peak_rank_memory_bytes": 2**30,
}


def test_progress_survives_its_file(tmp_path: Path) -> None:
    steps = pa.Table.from_pylist([STEP], schema=STEP_SCHEMA)
    losses = pa.Table.from_pylist(
        [{"example": 3, "step": 7, "labelled_tokens": 40, "loss": 60.0}],
        schema=EXAMPLE_LOSSES_SCHEMA,
    )
    before = Progress(steps, 2.5, 0.25, StepTotals.of(steps), losses)
    before.write(tmp_path)
    assert Progress.read(tmp_path) == before
    assert before.work.real_tokens == 90


def test_the_state_of_an_earlier_version_resumes_with_its_totals(tmp_path: Path) -> None:
    """It kept a step's loss, rate and norm: tokens and timings of single steps are unknown."""
    work = {"real_tokens": 90, "data_seconds": 0.1, "memory_peak_bytes": 2**30}
    learned = {name: STEP[name] for name in ("step", "loss", "learning_rate", "ended_at")}
    document = {
        "steps": [{**learned, "grad_norm": 0.5}],
        "seconds": 2.5,
        "saving_seconds": 0.25,
        "work": work,
    }
    (tmp_path / PROGRESS_FILE).write_text(json.dumps(document))
    progress = Progress.read(tmp_path)
    assert progress.work == StepTotals(
        real_tokens=90, data_seconds=0.1, peak_rank_memory_bytes=2**30
    )
    assert progress.losses.num_rows == 0
    [row] = progress.steps.to_pylist()
    assert {name: value for name, value in row.items() if value is not None} == {
        **learned,
        "grad_norm": 0.5,
    }
    assert progress.steps.schema == STEP_SCHEMA


def test_without_a_saved_state_nothing_is_done(tmp_path: Path) -> None:
    assert Progress.read(None).steps.num_rows == 0
    assert Progress.read(tmp_path).work == StepTotals()


def test_damaged_losses_are_an_error_that_names_their_file(tmp_path: Path) -> None:
    Progress().write(tmp_path)
    (tmp_path / LOSSES_FILE).write_bytes(b"PAR1 and no more")
    with pytest.raises(TrainingError, match=f"{LOSSES_FILE} of the checkpoint is damaged"):
        Progress.read(tmp_path)
