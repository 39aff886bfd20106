"""Profiles any command: runs it under the sampler, passes its exit code through and writes the report.

python -m dolly_assets.profiling [--interval-seconds S] [--out DIR] -- COMMAND …
"""

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from dolly_assets.errors import DollyError
from dolly_assets.profiling.report import REPORT_FILE, build_report
from dolly_assets.profiling.sampler import Sampler

_NOT_FOUND = 127  # what a shell says for a command that isn't there


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--interval-seconds", type=float, default=1.0, show_default=True, help="Time between samples.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("profile"),
    show_default=True,
    help="Folder to write.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def main(interval_seconds: float, out: Path, command: tuple[str, ...]) -> None:
    """Profiles COMMAND and writes a report of what it did to the devices and the host."""
    started_at = time.time()
    try:
        exit_code, ended_at = _run(command, out, interval_seconds)
    except DollyError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"Error: cannot run {command[0]}: {error.strerror}", err=True)
        sys.exit(_NOT_FOUND)
    title = shlex.join(command)
    summary = build_report(out, title=title, started_at=started_at, ended_at=ended_at, out=out)
    click.echo(f"{summary.verdict}\n{out / REPORT_FILE}", err=True)
    sys.exit(exit_code)


def _run(command: tuple[str, ...], folder: Path, interval_seconds: float) -> tuple[int, float]:
    """Runs the command; returns the exit code a shell would give, and when it ended (UTC epoch seconds)."""
    Sampler(folder, interval_seconds)  # a bad interval is said before the command starts
    with subprocess.Popen(command) as process, Sampler(folder, interval_seconds, process.pid):
        # Ctrl-C reaches the command through the terminal, SIGTERM only us. Either way the report is still
        # written.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
        code = process.wait()
        ended_at = time.time()
    return (code if code >= 0 else 128 - code), ended_at


if __name__ == "__main__":
    main()
