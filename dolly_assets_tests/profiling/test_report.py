"""The report over recorded samples, written here in the sampler's own format, and over none."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.profiling.analysis.findings import idle_share
from dolly_assets.profiling.analysis.summary import ReportSummary
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.record.journal import Journal
from dolly_assets.profiling.record.sampler import DEVICES_FILE, SAMPLES_FILE
from dolly_assets.profiling.report.report import build_report
from dolly_assets.profiling.series.phases import PHASES_FILE, PhaseLog

GIB = 2**30
START = 1_800_000_000.0
SECONDS = 600


def _record(folder: Path, seconds: int, gpu_count: int) -> None:
    """GPU 0 works all the time; the last one rests 1 second in 4. Every GPU draws 500 W."""
    devices = [Device(index, "NVIDIA H100", f"GPU-{index}", 80 * GIB) for index in range(gpu_count)]
    reason = "" if devices else "NVML Shared Library Not Found"
    Hardware(tuple(devices), reason, "host", 8, 64 * GIB).write(folder / DEVICES_FILE)
    journal = Journal(folder / SAMPLES_FILE)
    for second in range(seconds):
        resting = second % 4 == 0
        gpus = {
            str(index): {
                "gpu_utilization_percent": 0 if resting and index == gpu_count - 1 else 96,
                "memory_used_bytes": (70 + index + (second == 123)) * GIB,
                "power_watts": 500,
                "energy_joules": 1e6 + 500 * second,
                "temperature_celsius": 60 + second % 3,
            }
            for index in range(gpu_count)
        }
        process = {"cpu_seconds": 4.0 * second, "memory_bytes": 2 * GIB, "process_count": 2}
        host = {"cpu_percent": 97.0, "memory_used_bytes": 20 * GIB}
        journal.append(
            {"time_seconds": START + second, "host": host, "process": process, "gpu": gpus}
        )


class _Elements(HTMLParser):
    """The elements of a page, each with every attribute's name or None."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name) for name, _ in attrs] or [(tag, None)]


@pytest.fixture(scope="module")
def gpu_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReportSummary]:
    folder = tmp_path_factory.mktemp("gpus")
    _record(folder, SECONDS, gpu_count=3)
    phases = PhaseLog(folder / PHASES_FILE)
    phases.mark("train", START, START + 500, epoch=2)
    phases.mark("</script><b>odd & bold", START + 500, START + 2000)
    out = folder / "out"
    summary = build_report(
        folder, title="a <b> & c", started_at=START, ended_at=START + 599, out=out
    )
    return out, summary


def test_the_numbers_and_the_verdict_follow_from_the_samples(
    gpu_report: tuple[Path, ReportSummary],
) -> None:
    out, summary = gpu_report
    assert summary == ReportSummary.model_validate_json((out / "summary.json").read_text())
    assert summary.device_kind == "gpu"
    assert summary.samples_count == SECONDS
    assert summary.mean_gpu_utilization_percent == pytest.approx(96 * (1 + 1 + 0.75) / 3)
    assert summary.peak_gpu_memory_bytes == 73 * GIB
    assert summary.cost.energy_joules == pytest.approx(3 * 500 * 599)
    assert summary.verdict == "GPU 2 is idle 25 % of the time."
    assert summary.busy == (
        "3 GPUs busy 88 % of the time on average; memory peaked at 73 GiB of 80 GiB on GPU 2; "
        "249.6 Wh used."
    )
    cores = next(
        each for each in summary.series if (each.panel, each.label) == ("CPU", "process tree")
    )
    assert cores.mean == pytest.approx(50)  # 4 of 8 cores


def test_phases_are_clipped_to_the_span_and_have_their_own_utilization(
    gpu_report: tuple[Path, ReportSummary],
) -> None:
    train, odd = gpu_report[1].phases
    assert (train.name, train.seconds, odd.seconds) == ("train", 500, 99)
    assert train.mean_utilization_percent == pytest.approx(88, abs=0.5)


def test_the_page_loads_nothing_and_quotes_what_it_was_given(
    gpu_report: tuple[Path, ReportSummary],
) -> None:
    page = (gpu_report[0] / "report.html").read_text()
    elements = _Elements()
    elements.feed(page)
    assert [tag for tag, _ in elements.found].count("script") == 2
    loading = {"src", "href", "srcset", "data"}
    assert not [(tag, attribute) for tag, attribute in elements.found if attribute in loading]
    assert not {tag for tag, _ in elements.found} & {"link", "img", "iframe", "b"}
    assert not re.search(r"@import|url\(", page[: page.index("</style>")])
    assert "a &lt;b&gt; &amp; c" in page
    for panel in ("GPU utilization", "GPU memory", "GPU power", "GPU temperature", "CPU", "Memory"):
        assert f'"title":"{panel}, ' in page
    assert '"phase":"train"' in page


def test_the_picture_is_a_small_png_with_something_on_it(
    gpu_report: tuple[Path, ReportSummary],
) -> None:
    with Image.open(gpu_report[0] / "picture.png") as picture:
        assert picture.format == "PNG"
        assert 600 < picture.width < 680
        assert 200 < picture.height < 300
        colours = picture.convert("RGB").getcolors()
    assert colours
    assert len(colours) > 50
    assert (gpu_report[0] / "picture.png").stat().st_size < 30_000


def test_the_parquet_has_every_sample(gpu_report: tuple[Path, ReportSummary]) -> None:
    table = pq.read_table(gpu_report[0] / "samples.parquet")
    assert table.num_rows == SECONDS
    assert table["gpu.2.memory_used_bytes"].to_pylist()[123] == 73 * GIB
    assert table["time_seconds"].to_pylist()[0] == START


@pytest.mark.parametrize("seconds", [0, 1, 2])
@pytest.mark.slow
def test_few_or_no_samples_make_a_report_that_says_so(tmp_path: Path, seconds: int) -> None:
    if seconds:
        _record(tmp_path, seconds, gpu_count=0)
    summary = build_report(
        tmp_path, title="short", started_at=START, ended_at=START + 1.5, out=tmp_path / "out"
    )
    assert summary.samples_count == seconds
    assert ("No samples" if seconds == 0 else f"Only {seconds} sample") in summary.verdict
    page = (tmp_path / "out" / "report.html").read_text()
    assert "No NVIDIA device (" in page
    assert (tmp_path / "out" / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_without_a_gpu_the_verdict_is_about_the_cpus(tmp_path: Path) -> None:
    _record(tmp_path, 60, gpu_count=0)
    summary = build_report(
        tmp_path, title="cpu", started_at=START, ended_at=START + 59, out=tmp_path / "out"
    )
    assert summary.verdict == "Nothing stands out."
    assert summary.busy == (
        "CPUs busy 97 % of the time; the watched processes used 4.0 of 8 cores on average; "
        "their memory peaked at 2 GiB of 64 GiB."
    )
    summary = build_report(
        tmp_path, title="cpu", started_at=START, ended_at=START + 118, out=tmp_path / "out"
    )
    assert "50 % of the span has no samples" in summary.verdict
    started = build_report(
        tmp_path, title="cpu", started_at=START - 8, ended_at=START + 59, out=tmp_path / "out"
    )
    assert started.verdict == "Nothing stands out."  # a sampler needs its time to start


def test_idle_is_under_five_percent() -> None:
    assert idle_share(np.array([0.0, 4.9, 5.0, 100.0, np.nan])) == 0.5
