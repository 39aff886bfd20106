"""`dolly reports`: the server behind the links to reports in the UI."""

import socket
import sys

import click

from dolly_assets.cli._options import host_option, port_option
from dolly_assets.core import processes
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.urls import REPORTS_PORT

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 where browsers find it


@click.command()
@host_option
@port_option(REPORTS_PORT)
@click.option("--end-with-stdin", is_flag=True, hidden=True)
def reports(host: str, port: int, *, end_with_stdin: bool) -> None:
    """Serve reports to browsers, until Ctrl-C.

    The reports are read from the store; the server's own address lists them. `dolly ui` starts this
    server too. If browsers reach it at another address, set DOLLY_REPORTS_URL to it, for this
    server and for the runs, which write the links.
    """
    from dolly_assets.core.environment import Environment
    from dolly_assets.report_server.pages import Pages
    from dolly_assets.report_server.server import ReportServer
    from dolly_assets.storage.opening import open_objects, open_store

    environment = Environment.read()
    pages = Pages(open_store(environment), open_objects(environment))
    try:
        server = ReportServer(pages, host, port, environment.reports_url)
    except OSError as error:
        raise cannot_listen(host, port, error) from error
    if end_with_stdin:
        processes.end_with_stdin(exit_code=0)
    click.echo(f"reports: {environment.reports_url or address(host, port)}", err=True)
    server.serve_forever()


def address(host: str, port: int) -> str:
    """Return the URL at which a browser on this machine reaches a server."""
    reached_at = ANY_ADDRESS.get(host, host)
    return f"http://{f'[{reached_at}]' if ':' in reached_at else reached_at}:{port}"


def check_port(host: str, port: int, option: str) -> None:
    """Check now that a port is free: its server would report it late, and in many lines.

    Raises:
        ConfigurationError: It is in use or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise cannot_listen(host, port, error, option) from error


def cannot_listen(
    host: str, port: int, error: OSError, option: str = "--port"
) -> ConfigurationError:
    """Return the error of a port that is in use or not allowed."""
    return ConfigurationError(
        f"cannot listen on {host}:{port} ({error.strerror}): stop the process that uses the port, "
        f"or choose another {option}"
    )


if __name__ == "__main__":
    sys.exit(reports())
