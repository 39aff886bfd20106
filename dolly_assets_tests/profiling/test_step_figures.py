"""What the steps of a training say in its report.

The log is written by hand, in the ranks' own format.
"""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dolly_assets.profiling.analysis.figures import ReportContext
from dolly_assets.profiling.analysis.summary import Attempt, ReportSummary
from dolly_assets.profiling.report.report import build_report
from dolly_assets.profiling.series.phases import PHASES_FILE, PhaseLog
from dolly_assets.profiling.series.steplog import StepLog, StepRecord

START = 1_800_000_000.0
STEPS = 20
SECONDS = 2.0  # of a step
TFLOP = 1e12


def _log_steps(folder: Path, data: tuple[float, ...], forward: tuple[float, ...]) -> None:
    """Steps that follow each other; what is left of a step is backward and waiting."""
    for rank, (data_seconds, forward_seconds) in enumerate(zip(data, forward, strict=True)):
        log = StepLog(folder, rank)
        for step in range(STEPS):
            rest = SECONDS - data_seconds - forward_seconds - 0.2
            record = StepRecord(
                step=step + 1,
                epoch=1,
                rank=rank,
                started_at=START + step * SECONDS,
                ended_at=START + (step + 1) * SECONDS,
                data_seconds=data_seconds,
                forward_seconds=forward_seconds,
                backward_seconds=0.2,
                optimizer_seconds=0.0,
                wait_seconds=rest,
                real_tokens=800,
                processed_tokens=1000,
                labelled_tokens=300,
                flops=TFLOP,
            )
            log.append(record)


def _report(folder: Path, context: ReportContext | None = None) -> ReportSummary:
    end = START + STEPS * SECONDS
    return build_report(
        folder,
        title="steps",
        started_at=START,
        ended_at=end,
        out=folder / "out",
        context=context,
    )


def test_where_the_time_of_steps_went_and_what_was_computed(tmp_path: Path) -> None:
    _log_steps(tmp_path, data=(0.1, 0.1), forward=(1.0, 1.0))
    steps = _report(tmp_path, ReportContext(peak_flops=2 * TFLOP)).steps
    assert steps
    assert (steps.steps, steps.first_step, steps.last_step, len(steps.ranks)) == (
        STEPS,
        1,
        STEPS,
        2,
    )
    assert steps.step_seconds == pytest.approx(SECONDS)
    assert steps.shares["forward"] == pytest.approx(0.5)
    assert sum(steps.shares.values()) == pytest.approx(1)
    assert (steps.labelled_tokens, steps.prompt_tokens, steps.padding_tokens) == (
        12_000,
        20_000,
        8_000,
    )
    assert steps.tokens_per_second == pytest.approx(800)
    assert steps.mfu == pytest.approx(0.25)  # one of two devices' 2 TFLOP/s
    assert pq.read_table(tmp_path / "out" / "rank_steps.parquet").num_rows == 2 * STEPS
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Steps by rank" in page
    assert "not measured" in page  # no GPU: neither energy nor cost


def test_a_rank_that_waits_for_data_and_one_that_is_slow_are_named(tmp_path: Path) -> None:
    _log_steps(tmp_path / "data", data=(0.0, 0.36, 0.0), forward=(0.5, 0.14, 0.5))
    texts = [finding.text for finding in _report(tmp_path / "data").findings]
    assert texts == ["rank 1 waits 18 % of each step for data"]
    _log_steps(tmp_path / "slow", data=(0.0, 0.0, 0.0), forward=(0.5, 0.5, 0.9))
    slow = _report(tmp_path / "slow").findings
    assert [finding.check for finding in slow] == ["straggler"]
    assert slow[0].text.startswith("rank 2 needs 400 ms more than the others")


def test_interrupted_attempts_count_in_the_effective_training_time(tmp_path: Path) -> None:
    _log_steps(tmp_path, data=(0.0,), forward=(1.0,))
    assert _report(tmp_path).effective_ratio == pytest.approx(1)
    lost = Attempt(
        started_at=START - 100, ended_at=START - 60, first_step=1, last_step=15, step_seconds=30
    )
    assert _report(tmp_path, ReportContext(attempts=[lost])).effective_ratio == pytest.approx(
        40 / 80
    )


def test_saves_hold_training_up_and_uploads_hide_behind_steps(tmp_path: Path) -> None:
    _log_steps(tmp_path, data=(0.0,), forward=(1.0,))
    phases = PhaseLog(tmp_path / PHASES_FILE)
    end = START + STEPS * SECONDS
    phases.mark("save", end, end + 5, epoch=1)
    phases.mark("publish", START + 10, START + 30, epoch=0)
    phases.mark("publish", end + 5, end + 10, epoch=1)
    summary = build_report(
        tmp_path, title="saves", started_at=START, ended_at=end + 10, out=tmp_path / "out"
    )
    assert summary.checkpoints.saving_seconds == pytest.approx(5)
    assert summary.checkpoints.publish_seconds == pytest.approx(25)
    assert summary.checkpoints.hidden_share == pytest.approx(0.8)
    assert summary.findings[0].text == "checkpointing stalls training for 10 % of the time"
