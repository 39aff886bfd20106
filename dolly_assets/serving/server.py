"""A server from its first model to the end of its last stream."""

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import uvicorn
from pydantic import SecretStr

from dolly_assets.serving.app import Api, Limits
from dolly_assets.serving.names import find
from dolly_assets.serving.pool import Pool
from dolly_assets.serving.service import Service
from dolly_assets.storage.artifact import ArtifactStore

_IDLE_SECONDS = 30  # without a request on an open connection
_MOST_CONNECTIONS = 1024
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Attributes:
        host: Address that it listens on.
        token: What clients send; None if there is none.
        models: Base models that are loaded at once.
        rows: Requests that a model answers at once.
        limits: What clients may ask at most.
        finish_seconds: How long streams may go on once the server is asked to end.
    """

    host: str
    token: SecretStr | None
    models: int
    rows: int
    limits: Limits
    finish_seconds: int


def serve(
    store: ArtifactStore, names: Sequence[str], settings: Settings, listening: socket.socket
) -> None:
    """Serve the models of a store, until SIGTERM or Ctrl-C.

    Args:
        store: Where they are.
        names: Names of the models that are loaded at the start.
        settings: How.
        listening: A socket that listens already.

    Raises:
        ApiError: The store has no model of such a name.
        DollyError: A model cannot be loaded, or does not fit.
    """
    for name in names:
        find(store, name)
    asyncio.run(_serve(store, names, settings, listening))


async def _serve(
    store: ArtifactStore, names: Sequence[str], settings: Settings, listening: socket.socket
) -> None:
    pool = Pool(store, most_models=settings.models, most_rows=settings.rows)
    service = Service(store, pool)
    api = Api(service, settings.limits, token=settings.token, host=settings.host)
    for name in names:
        async with service.hold(name):
            pass
    api.is_ready = True
    config = uvicorn.Config(
        api.app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=settings.finish_seconds + 1,
    )
    server = uvicorn.Server(config)
    # It raises the signals that it got once more at its end, which is no reason to fail.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    tasks = [
        asyncio.create_task(service.refresh()),
        asyncio.create_task(_finish(server, api, pool, settings.finish_seconds)),
    ]
    try:
        await server.serve(sockets=[listening])
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await pool.close("the server has ended")


async def _finish(server: uvicorn.Server, api: Api, pool: Pool, seconds: int) -> None:
    """Once the server is asked to end, refuse requests, and end those that take too long."""
    while not server.should_exit:
        await asyncio.sleep(0.1)
    api.is_stopping = True
    _LOG.info("shutting down: running answers have %d s to end", seconds)
    await asyncio.sleep(seconds)
    await pool.close("the server is shutting down")
