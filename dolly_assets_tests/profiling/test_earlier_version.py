"""The numbers of reports that version 0.1 wrote, read, compared and drawn by this one.

The files are from the demo's store: of its first epoch, and of the whole training.
"""

from pathlib import Path

import pytest

from dolly_assets.profiling.analysis.compare import compare
from dolly_assets.profiling.analysis.summary import ReportSummary
from dolly_assets.profiling.analysis.training_summary import (
    Part,
    TrainingSummary,
    compare_trainings,
)
from dolly_assets.profiling.report.training_report import build_training_report

FOLDER = Path(__file__).parent / "version_0_1"
CHECKPOINT_TOKENS_PER_SECOND = 3941.3556448276418  # what the epoch's checkpoint states


@pytest.fixture
def report() -> ReportSummary:
    return ReportSummary.model_validate_json((FOLDER / "report.json").read_bytes())


@pytest.fixture
def training() -> TrainingSummary:
    return TrainingSummary.model_validate_json((FOLDER / "training.json").read_bytes())


def test_an_epochs_speed_is_that_of_its_checkpoint(report: ReportSummary) -> None:
    """Version 0.1 showed the speed while stepping in a profile, under the same name."""
    assert report.steps
    assert report.steps.tokens_per_second == pytest.approx(CHECKPOINT_TOKENS_PER_SECOND, rel=1e-4)
    assert report.steps.tokens_per_second_while_stepping == pytest.approx(3795, abs=1)
    assert report.interrupted == ""
    assert report.checkpoints.saving_seconds > 0


def test_what_was_not_recorded_is_not_measured(training: TrainingSummary) -> None:
    assert (training.epochs, training.interrupted_attempts) == (3, 0)
    assert training.tokens_per_second is None
    assert training.tokens_per_second_while_stepping


def test_it_is_compared_and_drawn_beside_a_report_of_today(
    report: ReportSummary, training: TrainingSummary, tmp_path: Path
) -> None:
    assert "tokens per second" in {line.name for line in compare(report, report)}
    attempt = report.model_copy(update={"interrupted": "the training ended at noon"})
    parts = [Part(1, report), Part(2, attempt)]
    summary = build_training_report("today", parts, tmp_path, previous=training)
    assert ReportSummary.model_validate_json(report.model_dump_json()) == report
    assert TrainingSummary.model_validate_json(summary.model_dump_json()) == summary
    assert {line.name for line in compare_trainings(training, summary)} >= {"epochs", "mean step"}
    assert "epoch 2, interrupted" in (tmp_path / "report.html").read_text()
