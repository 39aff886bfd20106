"""`dolly ui`: the Dagster UI on this environment, with the server behind its links to reports."""

import os
import subprocess
import sys

import click

from dolly_assets.cli._options import host_option, port_option
from dolly_assets.cli._session import open_session
from dolly_assets.cli.reports import ANY_ADDRESS, address, check_port
from dolly_assets.core.urls import REPORTS_PORT, REPORTS_URL


@click.command()
@host_option
@port_option(3000)
@click.option(
    "--reports-port",
    type=click.IntRange(1, 65535),
    default=REPORTS_PORT,
    show_default=True,
    help="Port of the report server.",
)
def ui(host: str, port: int, reports_port: int) -> None:
    """Start the Dagster UI and its daemon on this environment, and the report server.

    If browsers reach the reports at another address, set DOLLY_REPORTS_URL to it, for `dolly train`
    too: runs write the links.
    """
    from dolly_assets.core.environment import PROJECT

    check_port(host, port, "--port")
    check_port(host, reports_port, "--reports-port")
    session = open_session()
    session.register_datasets([dataset.name for dataset in session.catalogue.all()])
    workspace = PROJECT / "workspace.yaml"
    target = ["-w", str(workspace)] if workspace.is_file() else ["-m", "dolly_assets.definitions"]
    click.echo(address(host, port))
    if not session.environment.reports_url:
        url = os.environ["DOLLY_REPORTS_URL"] = address(host, reports_port)
        if url != REPORTS_URL or host in ANY_ADDRESS:
            click.echo(
                f"links to reports begin with {url}: set DOLLY_REPORTS_URL, for `dolly train` too, "
                "if browsers use another address"
            )
    _serve_reports(host, reports_port)
    command = [sys.executable, "-m", "dagster", "dev", *target, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 the UI takes this process's place


def _serve_reports(host: str, port: int) -> None:
    """Start the report server, which exits with the UI: that holds the server's stdin open."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    command = [sys.executable, "-m", "dolly_assets.cli.reports", "--host", host]
    subprocess.Popen([*command, "--port", str(port), "--end-with-stdin"], stdin=reading)
    os.close(reading)
