"""Finds adapters in the store for vLLM, which asks when a request names a model that it lacks.

vLLM loads `register` by the entry point `dolly_assets` of the group `vllm.general_plugins`, in each
of its processes: https://docs.vllm.ai/en/stable/design/lora_resolver_plugins/. It runs in vLLM's
environment, of which nothing else here knows.
"""

import asyncio
import logging
from pathlib import Path

from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]
from vllm.lora.resolver import (  # pyright: ignore[reportMissingImports]
    LoRAResolver,
    LoRAResolverRegistry,
)

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import BaseModelError, DollyError
from dolly_assets.registry.model_folders import base_model_of, has_weights
from dolly_assets.serving.names import find
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.fetch import is_file_intact
from dolly_assets.storage.opening import open_store

NAME = "dolly_assets"
WEIGHTS = "weights/"
_LOG = logging.getLogger(__name__)


def register() -> None:
    """Have vLLM ask the store that the environment names. May be called more than once.

    Raises:
        ConfigurationError: The environment names none, or a wrong one.
    """
    LoRAResolverRegistry.register_resolver(NAME, StoreResolver(open_store(Environment.read())))


class StoreResolver(LoRAResolver):
    """Fetches adapters by the names that `dolly serve` has for them, verified.

    An adapter is found only if vLLM serves a folder with the very base model that it was trained
    on, such as `dolly artifacts fetch FAMILY/base_model` writes.

    Args:
        store: Where adapters are.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._same: dict[tuple[str, str], bool] = {}

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """Return an adapter on this machine; None if there is none for the served model.

        Args:
            base_model_name: What vLLM serves: a folder, or a name on the Hub.
            lora_name: FAMILY/DATASET/EPOCH, or a stage in place of the epoch.
        """
        try:
            return await asyncio.to_thread(self._resolved, base_model_name, lora_name)
        except DollyError as error:
            _LOG.warning("%s: %s", lora_name, error)
            return None

    def _resolved(self, served: str, name: str) -> LoRARequest | None:
        checkpoint = find(self._store, name).artifact
        if has_weights(checkpoint):
            raise BaseModelError("it is a whole model, and no adapter: serve it by itself")
        base_model = base_model_of(self._store, checkpoint)
        pair = (served, base_model.digest)
        if pair not in self._same:
            self._same[pair] = _is_in(base_model, Path(served))
        if not self._same[pair]:
            raise BaseModelError(
                f"it is an adapter of {base_model.name} with digest {base_model.digest}, and "
                f"{served} is another model; fetch that one: dolly artifacts fetch "
                f"{base_model.name} FOLDER --digest {base_model.digest[:16]}"
            )
        # vLLM counts adapters itself, and replaces the number.
        return LoRARequest(name, 1, str(checkpoint.fetch("adapter")))


def _is_in(base_model: Artifact, folder: Path) -> bool:
    """Whether a folder has the weights of a base model, file by file; it is read once."""
    files = [entry for entry in base_model.manifest.files if entry.path.startswith(WEIGHTS)]
    sizes = {folder / entry.path.removeprefix(WEIGHTS): entry for entry in files}
    if any(not path.is_file() or path.stat().st_size != sizes[path].size_bytes for path in sizes):
        return False
    return all(is_file_intact(path, entry) for path, entry in sizes.items())
