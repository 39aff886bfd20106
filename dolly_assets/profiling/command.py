"""Profiles any command: runs it beside the sampler, passes its exit code on, writes the report.

    python -m dolly_assets.profiling [--interval SECONDS] [--out DIR] -- COMMAND …

Also available as `dolly profile run`. Knows nothing of trainings.
"""

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import click

from dolly_assets.core.errors import DollyError
from dolly_assets.profiling.record.sampler import LOG_FILE, Sampler

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # exit codes as of a shell
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option(
    "--interval", type=float, default=1.0, show_default=True, help="Seconds between samples."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("profile"),
    show_default=True,
    help="Folder to write samples and report to.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def profile_command(interval: float, out: Path, command: tuple[str, ...]) -> None:
    """Profile any COMMAND, and write a report of what devices and host did meanwhile.

    The exit code is that of the command, or 128 plus the number of the signal that ended it.
    SIGTERM and SIGHUP are passed on.
    """
    _require_writable(out)
    started_at = time.time()
    try:
        exit_code, ended_at = _run(command, out, interval)
    except DollyError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"Error: cannot run {command[0]}: {error.strerror}", err=True)
        sys.exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)
    _report(out, shlex.join(command), started_at, ended_at)
    sys.exit(exit_code)


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOG_FILE).touch()
    except OSError as error:
        raise click.BadParameter(
            f"cannot write to {folder}: {error.strerror}", param_hint="--out"
        ) from error


def _report(out: Path, title: str, started_at: float, ended_at: float) -> None:
    """Write the report. A failure is reported, but it is not the command's failure."""
    try:
        from dolly_assets.profiling.report import REPORT_FILE
        from dolly_assets.profiling.report.report import build_report

        summary = build_report(out, title=title, started_at=started_at, ended_at=ended_at, out=out)
    except Exception as error:  # noqa: BLE001 whatever it is, the command's exit code matters more
        click.echo(
            f"Error: the samples are in {out}, but the report could not be written: {error}",
            err=True,
        )
        return
    click.echo(f"{summary.verdict}\n{out / REPORT_FILE}", err=True)


def _run(command: tuple[str, ...], folder: Path, interval_seconds: float) -> tuple[int, float]:
    """Run the command; return the exit code that a shell would give, and when it ended."""
    Sampler(folder, interval_seconds)  # refuses a bad interval before the command starts
    processes: list[subprocess.Popen[bytes]] = []
    _pass_signals_on(processes)
    process = subprocess.Popen(command)
    processes.append(process)
    with process, Sampler(folder, interval_seconds, process.pid):
        code = process.wait()
        ended_at = time.time()
    return (code if code >= 0 else 128 - code), ended_at


def _pass_signals_on(processes: list[subprocess.Popen[bytes]]) -> None:
    """Leave signals to the processes, so that this process survives to write the report.

    Ctrl-C in a terminal reaches the command anyway. These are handlers and not SIG_IGN, which the
    command would inherit.
    """

    def forward(number: int, frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    signal.signal(signal.SIGINT, lambda number, frame: None)
