"""Adapters that vLLM asks for are found in the store, for their own base model only.

vLLM needs a GPU. Its two classes and the registry, as they are in 0.33, stand in for it here; where
it is installed, they are its own.
"""

import asyncio
import importlib
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dolly_assets.storage import Artifact, ArtifactStore

ADAPTER = "tiny/animals/1"


@dataclass
class LoRARequest:
    """An adapter that vLLM is to load."""

    lora_name: str
    lora_int_id: int
    lora_path: str = ""


class LoRAResolver(ABC):
    """What vLLM asks."""

    @abstractmethod
    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None: ...


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The resolvers that are registered, by name."""
    found: dict[str, Any] = {}
    if find_spec("vllm") is None:
        registry = SimpleNamespace(register_resolver=found.__setitem__, resolvers=found)
        for name, content in {
            "vllm": {},
            "vllm.lora": {},
            "vllm.lora.request": {"LoRARequest": LoRARequest},
            "vllm.lora.resolver": {
                "LoRAResolver": LoRAResolver,
                "LoRAResolverRegistry": registry,
            },
        }.items():
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delitem(sys.modules, "dolly_assets.serving.vllm_resolver", raising=False)
        return found
    return importlib.import_module("vllm.lora.resolver").LoRAResolverRegistry.resolvers


@pytest.fixture
def resolver(
    registered: dict[str, Any], store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.setenv("DOLLY_STORE", store.url)
    [point] = [
        point for point in entry_points(group="vllm.general_plugins") if "dolly" in point.name
    ]
    register = point.load()
    register()
    register()  # vLLM may call it more than once
    return registered["dolly_assets"]


@pytest.fixture
def base(store: ArtifactStore, tmp_path: Path) -> Artifact:
    """A base model, and an adapter and a whole model that were trained on it."""

    def published(name: str, tree: dict[str, str], **fields: Any) -> Artifact:
        files = {}
        for path, text in tree.items():
            files[path] = tmp_path / "content" / name / path
            files[path].parent.mkdir(parents=True)
            files[path].write_text(text)
        return store.publish(name, files, **fields)

    base = published("tiny/base_model", {"weights/config.json": "{}"}, kind="base_model")
    for epoch, tree in ((1, "adapter/adapter_config.json"), (2, "weights/config.json")):
        published(
            f"tiny/model_checkpoint/animals/{epoch:02}",
            {tree: "{ }"},
            kind="model_checkpoint",
            inputs={"tiny/base_model": base.digest},
            attributes={"epoch": epoch},
        )
    return base


def test_an_adapter_is_found_for_the_base_model_that_it_was_trained_on(
    resolver: Any, base: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = base.copy_to(tmp_path / "served") or tmp_path / "served" / "weights"

    def resolved(name: str, folder: str | Path = served) -> Any:
        return asyncio.run(resolver.resolve_lora(str(folder), name))

    request = resolved(ADAPTER)
    assert request.lora_name == ADAPTER
    assert request.lora_int_id > 0
    assert [path.name for path in Path(request.lora_path).iterdir()] == ["adapter_config.json"]
    for name, folder, why in (
        (ADAPTER, "someone/on-the-hub", "an adapter of tiny/base_model with digest"),
        ("tiny/animals/2", served, "it is a whole model"),
        ("tiny/animals/3", served, "no model"),
        ("tiny", served, "another form"),
    ):
        caplog.clear()
        assert resolved(name, folder) is None
        assert why in caplog.text


def test_an_adapter_of_another_base_model_is_refused(
    resolver: Any, base: Artifact, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("[]")
    assert asyncio.run(resolver.resolve_lora(str(other), ADAPTER)) is None
