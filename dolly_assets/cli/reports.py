"""`dolly reports`: the server behind the links to reports in the UI."""

import sys

import click

from dolly_assets.cli._options import host_option, port_option
from dolly_assets.cli._session import open_store
from dolly_assets.core import processes
from dolly_assets.core.errors import ConfigurationError


@click.command()
@host_option
@port_option(3001)
@click.option("--end-with-stdin", is_flag=True, hidden=True)
def reports(host: str, port: int, *, end_with_stdin: bool) -> None:
    """Serve reports to browsers, until Ctrl-C.

    The reports are read from the store. `dolly ui` starts this server too. If browsers reach it at
    another address, set DOLLY_REPORTS_URL for the runs, which write the links.
    """
    from dolly_assets.core.environment import Environment
    from dolly_assets.report_server import report_server
    from dolly_assets.storage.object_store import ObjectStore

    objects = ObjectStore(Environment.read().store_url)
    try:
        server = report_server(open_store(), objects, host, port)
    except OSError as error:
        raise cannot_listen(host, port, error) from error
    if end_with_stdin:
        processes.end_with_stdin(exit_code=0)
    click.echo(f"reports: http://{host}:{port}", err=True)
    server.serve_forever()


def cannot_listen(host: str, port: int, error: OSError) -> ConfigurationError:
    """Return the error of a port that is in use or not allowed."""
    return ConfigurationError(
        f"cannot listen on {host}:{port} ({error.strerror}): stop the process that uses the port, "
        "or choose another --port"
    )


if __name__ == "__main__":
    sys.exit(reports())
