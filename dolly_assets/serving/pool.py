"""How many models are loaded, and which is unloaded for another: the one that was idle longest.

A model is loaded once, whichever names it has; an adapter's base model is loaded once for all its
adapters. It knows checkpoints, and not which name stands for which.
"""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dolly_assets.core.errors import BaseModelError
from dolly_assets.registry.inputs import required_digest
from dolly_assets.registry.kinds import BASE_MODEL
from dolly_assets.registry.model_folders import fetch, has_weights, weights_bytes
from dolly_assets.serving.errors import busy
from dolly_assets.serving.names import ServedModel
from dolly_assets.serving.weights import LoadedBase, check_fits, load_base
from dolly_assets.storage.artifact import ArtifactStore

ROOM_SECONDS = 60.0
"""How long a request waits for a model that is in use to become idle."""
_MOST_ADAPTERS = 32  # beside one base model
_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class _Slot:
    """A loaded base model, and who uses it."""

    base: LoadedBase
    users: int = 0
    used_at: float = 0.0
    adapter_users: dict[str, int] = field(default_factory=dict)
    adapter_used_at: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class HeldModel:
    """A model that stays loaded while it is held.

    Attributes:
        base: The base model.
        adapter: The name of the adapter beside it, if it is one.
    """

    base: LoadedBase
    adapter: str | None


class Pool:
    """The loaded models.

    Args:
        store: Where checkpoints are.
        most_models: How many base models are loaded at once.
        most_rows: How many requests a model answers at once.
    """

    def __init__(self, store: ArtifactStore, *, most_models: int, most_rows: int) -> None:
        self._store, self._most_models, self._most_rows = store, most_models, most_rows
        self._slots: dict[str, _Slot] = {}
        self._loading = asyncio.Lock()
        self._released = asyncio.Event()

    @property
    def bases(self) -> dict[str, LoadedBase]:
        """The loaded base models, by the digest of their artifacts."""
        return {key: slot.base for key, slot in self._slots.items()}

    def has(self, model: ServedModel) -> bool:
        """Return whether a model is loaded."""
        key, adapter = _place(model)
        slot = self._slots.get(key)
        return slot is not None and (adapter is None or adapter in slot.base.adapters)

    def has_room_beside(self, model: ServedModel) -> bool:
        """Return whether another model can be loaded while this one stays."""
        key, adapter = _place(model)
        others = [slot for at, slot in self._slots.items() if at != key]
        return (
            adapter is not None
            or len(self._slots) < self._most_models
            or any(not slot.users for slot in others)
        )

    @asynccontextmanager
    async def hold(self, model: ServedModel) -> AsyncIterator[HeldModel]:
        """Load a model unless it is, and keep it loaded in the block.

        Raises:
            ApiError: All loaded models are in use, and none became idle in time.
            DollyError: The model cannot be loaded, or does not fit.
        """
        key, adapter = _place(model)
        if not self.has(model):
            async with self._loading:
                await self._load(model)
        slot = self._slots[key]
        slot.users += 1
        if adapter:
            slot.adapter_users[adapter] = slot.adapter_users.get(adapter, 0) + 1
        try:
            yield HeldModel(slot.base, adapter)
        finally:
            slot.users -= 1
            slot.used_at = time.monotonic()
            if adapter:
                slot.adapter_users[adapter] -= 1
                slot.adapter_used_at[adapter] = slot.used_at
            self._released.set()

    async def close(self, problem: str) -> None:
        """Unload all models; requests that run end with a problem."""
        for slot in [*self._slots.values()]:
            await asyncio.to_thread(slot.base.engine.stop, problem)
        self._slots.clear()

    async def _load(self, model: ServedModel) -> None:
        """Load a model, and unload others for it, unless another request has loaded it."""
        key, adapter = _place(model)
        if key not in self._slots:
            await self._make_room(model)
            began = time.monotonic()
            base = await asyncio.to_thread(_loaded, self._store, model, self._most_rows)
            self._slots[key] = _Slot(base, used_at=time.monotonic())
            _LOG.info("loaded %s in %.1f s", model.name, time.monotonic() - began)
        if adapter and adapter not in self._slots[key].base.adapters:
            slot = self._slots[key]
            await self._forget_adapters(slot)
            await asyncio.to_thread(_add_adapter, self._store, model, slot.base, adapter)
            _LOG.info("loaded the adapter of %s", model.name)

    async def _make_room(self, model: ServedModel) -> None:
        """Unload what is idle until there is room for one more model."""
        size_bytes = await asyncio.to_thread(weights_bytes, self._store, model.artifact)
        deadline = time.monotonic() + ROOM_SECONDS
        while True:
            idle = sorted(
                (slot.used_at, key) for key, slot in self._slots.items() if not slot.users
            )
            if len(self._slots) < self._most_models:
                try:
                    check_fits(size_bytes, model.name)
                    return
                except BaseModelError:
                    if not idle:
                        raise
            if idle:
                await self._unload(idle[0][1])
                continue
            self._released.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._released.wait()
            except TimeoutError:
                raise busy(
                    f"all {len(self._slots)} loaded models are in use: ask again, or load more "
                    "(--models)"
                ) from None

    async def _unload(self, key: str) -> None:
        slot = self._slots.pop(key)
        await asyncio.to_thread(slot.base.engine.stop, "the model was unloaded")
        del slot
        gc.collect()
        _LOG.info("unloaded %s", key[:16])

    async def _forget_adapters(self, slot: _Slot) -> None:
        """Remove the adapter that was idle longest, if there are many."""
        idle = sorted(
            (slot.adapter_used_at.get(name, 0.0), name)
            for name in slot.base.adapters
            if not slot.adapter_users.get(name)
        )
        if len(slot.base.adapters) >= _MOST_ADAPTERS and idle:
            await asyncio.to_thread(slot.base.remove_adapter, idle[0][1])


def _place(model: ServedModel) -> tuple[str, str | None]:
    """Return the digest of a checkpoint's base model, and the name of its adapter if it is one."""
    if has_weights(model.artifact):
        return model.checkpoint, None
    return required_digest(model.artifact, BASE_MODEL), model.checkpoint


def _loaded(store: ArtifactStore, model: ServedModel, most_rows: int) -> LoadedBase:
    folders = fetch(store, model.artifact)
    base = load_base(folders.weights, folders.template)
    base.start(most_rows)
    return base


def _add_adapter(store: ArtifactStore, model: ServedModel, base: LoadedBase, name: str) -> None:
    folder = fetch(store, model.artifact).adapter
    assert folder is not None, "an adapter's checkpoint has a folder of it"
    base.add_adapter(name, folder)
