"""The model that answers a name: the newest one, and the one before it until that is loaded.

A promotion or a rollback becomes visible within seconds, without a request that waits for it:
requests that run end on the model that they began with. It knows names and the pool.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import one_line
from dolly_assets.serving.errors import ApiError
from dolly_assets.serving.names import ServedModel, find
from dolly_assets.serving.pool import HeldModel, Pool
from dolly_assets.storage.artifact import ArtifactStore

REFRESH_SECONDS = 2.0
"""How often the store is asked which model a name stands for, of names that were asked for."""
_LOG = logging.getLogger(__name__)


class Service:
    """The models of a store, by name.

    Args:
        store: Where the models are.
        pool: Where they are loaded.
    """

    def __init__(self, store: ArtifactStore, pool: Pool) -> None:
        self.store, self.pool = store, pool
        self._answering: dict[str, ServedModel] = {}
        self._problems: dict[str, str] = {}

    async def find(self, name: str) -> ServedModel:
        """Return the model that answers a name now.

        Raises:
            ApiError: There is none.
            ArtifactError: The store fails.
        """
        if name not in self._answering:
            self._answering[name] = await asyncio.to_thread(find, self.store, name)
        return self._answering[name]

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[tuple[ServedModel, HeldModel]]:
        """Return the model that answers a name, loaded as long as the block lasts.

        Raises:
            ApiError: There is none, or no room for it.
            DollyError: It cannot be loaded, or the store fails.
        """
        model = await self.find(name)
        async with self.pool.hold(model) as held:
            yield model, held

    async def refresh(self) -> None:
        """Follow the store, until it is cancelled."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            for name in [*self._answering]:
                await self._refresh(name)

    async def _refresh(self, name: str) -> None:
        current = self._answering[name]
        try:
            newest = await asyncio.to_thread(find, self.store, name)
            if newest.checkpoint != current.checkpoint and self._wants_both(current):
                async with self.pool.hold(newest):
                    pass
            if newest.checkpoint != current.checkpoint:
                _LOG.info("%s is now %s", name, newest.checkpoint)
            self._answering[name] = newest
            self._problems.pop(name, None)
        except ApiError as error:
            if error.code == "model_not_found":
                del self._answering[name]
            self._report(name, error)
        except DollyError as error:
            self._report(name, error)

    def _wants_both(self, current: ServedModel) -> bool:
        """Return whether a newer model is loaded before the current one stops to answer."""
        return self.pool.has(current) and self.pool.has_room_beside(current)

    def _report(self, name: str, error: DollyError) -> None:
        """Log why the model of a name stays as it is, once."""
        problem = one_line(error)
        if self._problems.get(name) != problem:
            self._problems[name] = problem
            _LOG.warning("%s stays as it is: %s", name, problem)
