"""The report over a whole training: what its epochs and an interrupted attempt add up to."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dolly_assets.profiling.analysis.figures import ReportContext
from dolly_assets.profiling.analysis.training_summary import (
    Part,
    TrainingSummary,
    compare_trainings,
)
from dolly_assets.profiling.report.training_report import build_training_report
from dolly_assets.worker.profiles.profile_publisher import attempt_of
from dolly_assets_tests.profiling.recorder import (
    ATTEMPT,
    EPOCH,
    GPU_HOUR_USD,
    GPUS,
    LABELLED,
    PAUSE,
    START,
    STEP,
    WATTS,
    Recorder,
)

pytestmark = pytest.mark.slow  # draws whole reports


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    """Epoch 1; an interrupted attempt at epoch 2; then epoch 2, whose rank 1 waits for data."""
    recorder = Recorder(tmp_path_factory.mktemp("training"))
    second, third = START + EPOCH + 1, START + EPOCH + ATTEMPT + PAUSE
    recorder.record(START, EPOCH, epoch=1)
    recorder.record(second, ATTEMPT, epoch=2)
    recorder.record(third, EPOCH, epoch=2, waits=1.0)
    known = ReportContext(gpu_hour_usd=GPU_HOUR_USD, peak_flops=1e12)
    reason = "the training ended at noon"
    attempt = recorder.report(second, ATTEMPT, replace(known, interrupted=reason))
    return [
        Part(1, recorder.report(START, EPOCH, known), "first/report.html"),
        Part(2, attempt),
        Part(
            2,
            recorder.report(third, EPOCH, replace(known, attempts=[attempt_of(attempt)])),
            "second/report.html",
        ),
    ]


@pytest.fixture(scope="module")
def report(
    parts: list[Part], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainingSummary]:
    out = tmp_path_factory.mktemp("report")
    return out, build_training_report("a <b> training", parts, out)


def test_a_training_is_its_epochs_and_interrupted_attempts(
    report: tuple[Path, TrainingSummary],
) -> None:
    summary = report[1]
    hours = GPUS * (2 * EPOCH + ATTEMPT) / 3600
    assert (summary.epochs, summary.interrupted_attempts) == (2, 1)
    assert summary.duration_seconds == pytest.approx(2 * EPOCH + ATTEMPT)
    assert summary.cost.gpu_hours == pytest.approx(hours)
    assert summary.cost.usd == pytest.approx(hours * GPU_HOUR_USD)
    assert summary.cost.energy_joules == pytest.approx(hours * 3600 * WATTS, rel=0.03)
    assert summary.labelled_tokens == 2 * GPUS * EPOCH // STEP * LABELLED, "of what was kept"
    assert summary.cost.usd_per_million_labelled == pytest.approx(
        hours * GPU_HOUR_USD * 1e6 / summary.labelled_tokens
    )
    assert summary.peak_gpu_memory_bytes == 2 * 2**30
    assert summary.effective_ratio == pytest.approx(2 * EPOCH / (2 * EPOCH + ATTEMPT), rel=0.02)
    assert summary.mfu == pytest.approx(1 / STEP)


def test_the_verdict_names_the_epoch_with_the_worst_finding(
    report: tuple[Path, TrainingSummary], parts: list[Part]
) -> None:
    assert report[1].verdict.startswith("Epoch 2: ")
    assert report[1].verdict.removeprefix("Epoch 2: ").lower() == parts[2].summary.verdict.lower()
    assert "2 epochs and 1 interrupted attempt took 4 min 40 s" in report[1].busy


def test_a_training_that_was_interrupted_says_so_first(parts: list[Part], tmp_path: Path) -> None:
    summary = build_training_report("interrupted", parts[:2], tmp_path)
    assert summary.verdict.startswith("Epoch 2: Interrupted: the training ended at noon.")
    assert "Interrupted: the training ended at noon." in (tmp_path / "report.html").read_text()


def test_the_page_links_its_epochs_and_loads_nothing(report: tuple[Path, TrainingSummary]) -> None:
    page = (report[0] / "report.html").read_text()
    assert '<a href="first/report.html">epoch 1</a>' in page
    assert "<td>epoch 2, interrupted</td>" in page
    assert "a &lt;b&gt; training" in page
    assert "1000 s" not in page
    assert "<script src" not in page
    assert "<link" not in page
    assert (report[0] / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_in_the_picture_is_written_dark_on_dark(
    report: tuple[Path, TrainingSummary],
) -> None:
    with Image.open(report[0] / "picture.png") as drawn:
        brightness = drawn.convert("L").tobytes()
    assert min(brightness) == brightness[0], "darker than the ground, which the corner shows"


def test_trainings_are_compared_figure_by_figure(
    report: tuple[Path, TrainingSummary], parts: list[Part]
) -> None:
    alone = build_training_report("alone", parts[:1], report[0] / "alone", previous=report[1])
    lines = {line.name: line for line in compare_trainings(report[1], alone)}
    assert lines["epochs"].change == "-50.0 %"
    assert lines["cost"].change == "-57.1 %"
    assert (
        "Compared with the previous training" in (report[0] / "alone" / "report.html").read_text()
    )
