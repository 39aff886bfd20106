"""`python -m dolly_assets.profiling` as a user runs it."""

import subprocess
import sys
from pathlib import Path

from dolly_assets.profiling.report import ReportSummary

PROFILE = [sys.executable, "-m", "dolly_assets.profiling", "--interval-seconds", "0.1"]


def test_the_exit_code_passes_through_and_the_report_is_written(tmp_path: Path) -> None:
    code = "import sys, time; time.sleep(1); print('mine'); sys.exit(3)"
    command = [*PROFILE, "--out", str(tmp_path), "--", sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert run.stdout == "mine\n"
    assert str(tmp_path / "report.html") in run.stderr
    summary = ReportSummary.model_validate_json((tmp_path / "summary.json").read_text())
    assert summary.verdict in run.stderr
    assert summary.title.startswith(sys.executable)


def test_a_command_that_is_not_there_is_said_as_a_shell_would(tmp_path: Path) -> None:
    command = [*PROFILE, "--out", str(tmp_path), "--", "no-such-command"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 127
    assert "cannot run no-such-command: No such file" in run.stderr


def test_a_bad_interval_is_an_error_before_the_command_runs(tmp_path: Path) -> None:
    command = [*PROFILE, "--interval-seconds", "0", "--out", str(tmp_path), "--", "touch", str(tmp_path / "ran")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "at least 0.1 s" in run.stderr
    assert not (tmp_path / "ran").exists()
