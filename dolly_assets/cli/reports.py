"""`dolly reports`: the server behind the links to reports in the UI."""

import os
import sys
import threading

import click

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.storage import open_store
from dolly_assets.storage.object_store import ObjectStore


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3001,
    show_default=True,
    help="Port to listen on.",
)
@click.option("--end-with-stdin", is_flag=True, hidden=True)
def reports(host: str, port: int, *, end_with_stdin: bool) -> None:
    """Serve reports to browsers, from any store, until Ctrl-C; `dolly ui` does so by itself.

    Where it is reached under another address, say so to the runs: DOLLY_REPORTS_URL.
    """
    from dolly_assets.report_server import report_server

    environment = Environment.read()
    store = open_store(environment)
    try:
        server = report_server(store, ObjectStore(environment.store_url), host, port)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror}): stop what runs there, or choose another --port"
        ) from error
    if end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    click.echo(f"reports: http://{host}:{port}", err=True)
    server.serve_forever()


def _end_with_stdin() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(reports())
