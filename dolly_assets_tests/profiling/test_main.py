"""`python -m dolly_assets.profiling` and `dolly profile run` as a user runs them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dolly_assets.profiling.report.report import ReportSummary

pytestmark = pytest.mark.slow

PROFILE = [sys.executable, "-m", "dolly_assets.profiling"]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROFILE, *arguments], capture_output=True, text=True, check=False)


def test_the_exit_code_passes_through_and_the_report_is_written(tmp_path: Path) -> None:
    code = "import sys, time; time.sleep(1); print('mine'); sys.exit(3)"
    run = _run("--interval", "0.1", "--out", str(tmp_path), "--", sys.executable, "-c", code)
    assert run.returncode == 3
    assert run.stdout == "mine\n"
    assert str(tmp_path / "report.html") in run.stderr
    summary = ReportSummary.model_validate_json((tmp_path / "summary.json").read_text())
    assert summary.verdict in run.stderr
    assert summary.title.startswith(sys.executable)


def test_dolly_profile_run_is_the_same_command(tmp_path: Path) -> None:
    dolly = [sys.executable, "-c", "from dolly_assets.cli.main import main; main()"]
    command = [*dolly, "profile", "run", "--interval", "0.1", "--out", str(tmp_path), "--"]
    code = "import time; time.sleep(1); raise SystemExit(3)"
    run = subprocess.run(
        [*command, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 3
    assert str(tmp_path / "report.html") in run.stderr


# Tells what it gets, since it can't be seen from outside; then ends as it would have without a
# handler.
TELLING = """
import os, signal
def tell(number, frame):
    print("got", number, flush=True)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
signal.signal(signal.SIGTERM, tell)
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_killed_has_its_report(tmp_path: Path, sent: signal.Signals) -> None:
    """SIGTERM goes to the profiler, which passes it on; SIGKILL, as of the kernel, to it."""
    command = [*PROFILE, "--interval", "0.1", "--out", str(tmp_path), sys.executable, "-c", TELLING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as profiler:
        assert profiler.stdout
        pid = int(profiler.stdout.readline())
        os.kill(pid if sent == signal.SIGKILL else profiler.pid, sent)
        told = profiler.stdout.read()
    assert profiler.returncode == 128 + sent
    assert told == ("got 15\n" if sent == signal.SIGTERM else "")
    assert (tmp_path / "report.html").exists()


def test_a_command_that_cannot_be_run_is_said_as_a_shell_would(tmp_path: Path) -> None:
    run = _run("--out", str(tmp_path), "--", "no-such-command")
    assert (run.returncode, run.stderr) == (
        127,
        "Error: cannot run no-such-command: No such file or directory\n",
    )
    run = _run("--out", str(tmp_path), "--", str(tmp_path))
    assert run.returncode == 126


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--interval", "0"], "at least 0.1 s"),
        (["--intervall", "1"], "No such option '--intervall'"),
        (["--out", "/proc/nowhere"], "cannot write to /proc/nowhere"),
    ],
)
def test_a_bad_option_is_an_error_before_the_command_runs(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    run = _run("--out", str(tmp_path / "out"), *arguments, "--", "touch", str(tmp_path / "ran"))
    assert run.returncode == 2
    assert said in run.stderr
    assert not (tmp_path / "ran").exists()
