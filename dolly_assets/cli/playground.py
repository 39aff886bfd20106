"""`dolly playground`: the page to chat with models, and the server that answers on it."""

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from dolly_assets.cli._options import host_option, port_option
from dolly_assets.cli._session import open_session
from dolly_assets.cli.reports import address, check_port
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.urls import LOOPBACK, PLAYGROUND_PORT, check_no_password

if TYPE_CHECKING:
    from pydantic import SecretStr

TOKEN_VARIABLE = "DOLLY_SERVE_TOKEN"  # noqa: S105 the name of a variable
_SERVING = "serving: "  # how `dolly serve` begins the line with its address
_SERVE = (
    "from dolly_assets.core.processes import end_with_stdin; end_with_stdin(0); "
    "from dolly_assets.cli.main import main; main()"
)
"""What serves models until this process is gone, however it ends."""
_ENDING_SECONDS = 10


@click.command()
@click.option(
    "--server",
    metavar="URL",
    help="The API of a running dolly serve, such as http://127.0.0.1:8000/v1. Default: one is "
    "started for this page, on a free port of this machine.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"File with the token of that server. Default: {TOKEN_VARIABLE}, if it is set.",
)
@click.option(
    "--preferences",
    metavar="NAME",
    default="preferences",
    show_default=True,
    help="Dataset that votes are added to.",
)
@host_option
@port_option(PLAYGROUND_PORT)
@click.option(
    "--behind-login",
    is_flag=True,
    help="A log-in stands in front of the page, so that --host may be another address than this "
    "machine's own.",
)
def playground(
    server: str | None,
    token_file: Path | None,
    preferences: str,
    host: str,
    port: int,
    *,
    behind_login: bool,
) -> None:
    """Chat with models in the browser, and compare two of them, until Ctrl-C.

    Any epoch and any model in a stage can be chosen. Votes for the better of two answers become a
    dataset of preferences. If browsers reach the page at another address, set DOLLY_PLAYGROUND_URL
    to it, for the runs too, which write links.
    """
    from dolly_assets.datasets.preferences.votes import Votes
    from dolly_assets.playground.client import Models
    from dolly_assets.playground.server import check_installed, serve
    from dolly_assets.playground.setup import Setup
    from dolly_assets.storage.opening import open_objects

    _check_host(host, behind_login=behind_login)
    check_installed()
    check_port(host, port, "--port")
    session = open_session()
    url = session.environment.playground_url
    votes = Votes(open_objects(session.environment), session.catalogue, preferences)
    with _models(server, token_file) as (api, token):
        click.echo(f"playground: {url or address(host, port)}", err=True)
        serve(Setup(Models(api, token), session.store, votes), host, port, url)


def _check_host(host: str, *, behind_login: bool) -> None:
    """Raise ConfigurationError if others than users of this machine could open the page."""
    if host not in LOOPBACK and not behind_login:
        raise ConfigurationError(
            f"--host {host} lets everyone who reaches this machine use its models and vote: put a "
            "log-in in front of the page, such as oauth2-proxy, and then add --behind-login"
        )


@contextmanager
def _models(
    server: str | None, token_file: Path | None
) -> Iterator[tuple[str, "SecretStr | None"]]:
    """Provide the address of the models' server and its token; start one if none is named."""
    from pydantic import SecretStr

    if server:
        yield check_no_password(server.rstrip("/"), "--server"), _token(token_file)
        return
    if token_file:
        raise ConfigurationError("--token-file is of a server: name that in --server")
    token = secrets.token_hex(32)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, "serve", "--port", "0"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, TOKEN_VARIABLE: token},
        start_new_session=True,  # Ctrl-C ends the page first, and that ends this
    )
    assert process.stderr
    try:
        yield _address_of(process.stderr), SecretStr(token)
    finally:
        process.terminate()
        try:
            process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _address_of(stderr: IO[str]) -> str:
    """Return the address that a server prints, and pass on what it prints after that.

    Raises:
        ConfigurationError: It has ended instead.
    """
    line = ""
    for line in stderr:
        if line.startswith(_SERVING):
            threading.Thread(target=_pass_on, args=(stderr,), daemon=True).start()
            return line.removeprefix(_SERVING).strip()
    raise ConfigurationError(
        f"the models' server did not start: {line.strip().removeprefix('dolly: ') or 'no reason'}"
    )


def _pass_on(stderr: IO[str]) -> None:
    for line in stderr:
        click.echo(line, nl=False, err=True)


def _token(file: Path | None) -> "SecretStr | None":
    """Return the token of a file, else of the environment; None if there is none.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    from pydantic import SecretStr

    if not file:
        text = os.environ.get(TOKEN_VARIABLE, "")
    else:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"--token-file {file}: cannot be read: {error}") from error
    return SecretStr(text.strip()) if text.strip() else None
