"""What the tests of the store publish."""

from pathlib import Path

import pytest

from dolly_assets_tests.storage.files import MODEL


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with a file of several chunks, an empty file, and an awkward name."""
    folder = tmp_path / "tree"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "model.safetensors").write_bytes(MODEL)
    (folder / "weights" / "config.json").write_text('{"vocab_size": 3}')
    (folder / "state").mkdir()
    (folder / "state" / "rng é #1 %41.bin").write_bytes(b"random")
    (folder / "empty").touch()
    return folder
