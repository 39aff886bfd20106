"""`dolly profile` as a user runs it, on a store with the report of a short journal."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dolly_assets.cli.main import main
from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.profiling.record.devices import Hardware
from dolly_assets.profiling.record.journal import Journal
from dolly_assets.profiling.record.sampler import DEVICES_FILE, SAMPLES_FILE
from dolly_assets.profiling.report.report import build_report
from dolly_assets.storage import ArtifactStore

START = 1_800_000_000.0


def _profile(folder: Path, idle: bool) -> Path:
    """Twenty seconds of two GPUs, of which the second may have nothing to do."""
    Hardware((Device(0, "GPU A"), Device(1, "GPU A")), host="host").write(folder / DEVICES_FILE)
    journal = Journal(folder / SAMPLES_FILE)
    for second in range(20):
        gpus = {
            "0": {"gpu_utilization_percent": 90},
            "1": {"gpu_utilization_percent": 0 if idle else 90},
        }
        journal.append({"time_seconds": START + second, "gpu": gpus})
    build_report(
        folder, title=f"{folder.name}", started_at=START, ended_at=START + 19, out=folder / "out"
    )
    return folder / "out"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setenv("DOLLY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOLLY_STORE", raising=False)
    store = ArtifactStore(str(tmp_path / "home" / "store"), tmp_path / "home" / "cache")
    for epoch, idle in (("01", False), ("02", True)):
        (tmp_path / f"epoch {epoch}").mkdir()
        store.publish(
            f"tiny/gpu_profile/animals/{epoch}",
            _profile(tmp_path / f"epoch {epoch}", idle),
            kind="gpu_profile",
        )
    return store


def _dolly(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["profile", *arguments])
    assert result.exit_code == code, result.output
    return result


def _of(epoch: str) -> list[str]:
    return ["--model", "tiny", "--dataset", "animals", "--epoch", epoch]


def test_the_verdict_the_figures_and_what_changed_are_shown(store: ArtifactStore) -> None:
    shown = _dolly("show", *_of("2"), "--against", "1").stdout
    assert "GPU 1 is idle 100 % of the time." in shown
    assert "compute.gpus" in shown  # what to do about it
    [busy] = [line for line in shown.splitlines() if line.startswith("GPUs busy")]
    assert busy.split()[2:] == ["90.0", "%", "45.0", "%", "-50.0", "%"]
    assert "Nothing stands out." in _dolly("show", *_of("1")).stdout


def test_the_page_is_written_where_it_is_asked_for(store: ArtifactStore, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    _dolly("open", *_of("2"), "--out", str(page))
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_an_epoch_without_a_profile_is_said(store: ArtifactStore) -> None:
    assert "no profile of epoch 3 of tiny on animals" in _dolly("show", *_of("3"), code=2).stderr
