"""`dolly serve`: published models behind OpenAI's API."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolly_assets.cli._options import host_option
from dolly_assets.cli._session import open_store
from dolly_assets.cli.reports import address, cannot_listen
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.urls import LOOPBACK

if TYPE_CHECKING:
    from pydantic import SecretStr

SERVE_PORT = 8000
VARIABLE = "DOLLY_SERVE_TOKEN"
_SHORTEST_TOKEN = 16


@click.command()
@click.argument("models", nargs=-1, metavar="[FAMILY/DATASET/EPOCH|champion]…")
@host_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=SERVE_PORT,
    show_default=True,
    help="Port to listen on; 0 is any free one.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"File with the token that clients send. Default: {VARIABLE}, if it is set.",
)
@click.option(
    "--models",
    "most_models",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Base models that are loaded at once.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Requests that a model answers at once; others wait.",
)
@click.option(
    "--requests",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Requests that are answered or wait; others are refused with 429.",
)
@click.option(
    "--rate",
    "per_minute",
    type=click.IntRange(0),
    default=0,
    help="Requests of one address in a minute; others are refused with 429. Default: any number.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="Length of the longest answer.",
)
@click.option(
    "--grace",
    "finish_seconds",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    help="Seconds that running answers have to end after SIGTERM.",
)
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    token_file: Path | None,
    most_models: int,
    batch: int,
    requests: int,
    per_minute: int,
    max_tokens: int,
    finish_seconds: int,
) -> None:
    """Serve published models behind OpenAI's API, until Ctrl-C.

    Every model of the store is served: FAMILY/DATASET/EPOCH, and the champion (or `staging`,
    `candidate`) as FAMILY/DATASET/champion, which follows promotions. A model is loaded when it is
    first asked for; those that are named here, at the start.
    """
    token = _token(token_file)
    if host not in LOOPBACK and token is None:
        raise ConfigurationError(
            f"--host {host} lets other machines ask without a token: name a file with one in "
            f"--token-file, or set {VARIABLE}"
        )
    _log_to_stderr()
    from dolly_assets.serving.app import Limits
    from dolly_assets.serving.server import Settings
    from dolly_assets.serving.server import serve as run

    listening = _listening(host, port)
    click.echo(f"serving: {address(host, listening.getsockname()[1])}/v1", err=True)
    settings = Settings(
        host=host,
        token=token,
        models=most_models,
        rows=batch,
        limits=Limits(requests=requests, answer_tokens=max_tokens, per_minute=per_minute),
        finish_seconds=finish_seconds,
    )
    run(open_store(), models, settings, listening)


def _token(file: Path | None) -> "SecretStr | None":
    """Return the token of a file, else of the environment; None if there is none.

    Raises:
        ConfigurationError: The file cannot be read, or the token is too short or no token.
    """
    from pydantic import SecretStr

    where, text = VARIABLE, os.environ.get(VARIABLE, "")
    if file:
        try:
            where, text = str(file), file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"--token-file {file}: cannot be read: {error}") from error
    text = text.strip()
    if not text and not file:
        return None
    if len(text) < _SHORTEST_TOKEN or not text.isascii() or len(text.split()) > 1:
        raise ConfigurationError(
            f"{where}: expected a token of at least {_SHORTEST_TOKEN} ASCII characters without "
            "spaces, such as `openssl rand -hex 32` prints"
        )
    return SecretStr(text)


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: The port is in use or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise cannot_listen(host, port, error) from error


def _log_to_stderr() -> None:
    """Print what the server reports."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("dolly_assets.serving")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
