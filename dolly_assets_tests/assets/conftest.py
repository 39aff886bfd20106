"""A store for artifacts of a few bytes each: what is decided from manifests needs no training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.storage.artifact import Artifact, ArtifactStore, artifact_name

Publish = Callable[..., Artifact]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")


@pytest.fixture
def publish(store: ArtifactStore, tmp_path: Path) -> Publish:
    """Publishes an artifact whose one file says what it is."""

    def publish(key: list[str], *partition: str, text: str = "", **values: Any) -> Artifact:
        file = tmp_path / "content"
        name = artifact_name(key, *partition)
        file.write_text(f"{name} {text}")
        return store.publish(name, {"content": file}, kind=key[-1], **values)

    return publish
