"""`dolly ui`: the Dagster UI on this environment, with the server behind its links to reports."""

import os
import socket
import subprocess
import sys

import click

from dolly_assets.cli._options import host_option, port_option
from dolly_assets.cli._session import open_session
from dolly_assets.cli.reports import cannot_listen


@click.command()
@host_option
@port_option(3000)
def ui(host: str, port: int) -> None:
    """Start the Dagster UI and its daemon on this environment."""
    from dolly_assets.core.environment import PROJECT

    _check_port(host, port)
    session = open_session()
    session.register_datasets([dataset.name for dataset in session.catalogue.all()])
    workspace = PROJECT / "workspace.yaml"
    target = ["-w", str(workspace)] if workspace.is_file() else ["-m", "dolly_assets.definitions"]
    click.echo(f"http://{host}:{port}")
    if not session.environment.reports_url:
        os.environ["DOLLY_REPORTS_URL"] = f"http://{host}:{port + 1}"
        _serve_reports(host, port + 1)
    command = [sys.executable, "-m", "dagster", "dev", *target, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 the UI takes this process's place


def _check_port(host: str, port: int) -> None:
    """Check now that the port is free: Dagster would report it late, and in many lines."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise cannot_listen(host, port, error) from error


def _serve_reports(host: str, port: int) -> None:
    """Start the report server, which exits with the UI: that holds the server's stdin open."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    command = [sys.executable, "-m", "dolly_assets.cli.reports", "--host", host]
    subprocess.Popen([*command, "--port", str(port), "--end-with-stdin"], stdin=reading)
    os.close(reading)
