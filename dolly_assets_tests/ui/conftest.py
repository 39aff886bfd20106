"""One UI for all tests of this folder, on a home in which two epochs of `tiny` were trained."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dolly_assets_tests.home import Home
from dolly_assets_tests.ui.server import Server, serving

PICTURES = "DOLLY_UI_PICTURES"
OFTEN = """
type: dolly_assets.components.DatasetsComponent
attributes:
  datasets: [{{name: scheduled, source: {source}, schedule: "0 5 * * *"}}]
"""


@pytest.fixture(scope="session")
def ui_home(trained: Home, animals: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with an inbox, and with a dataset that is looked at daily."""
    path = tmp_path_factory.mktemp("ui")
    home = Home(Path(shutil.copytree(trained.path, path / "home")), inbox=path / "inbox")
    (path / "inbox").mkdir()
    (home.path / "defs" / "datasets").mkdir()
    (home.path / "defs" / "datasets" / "defs.yaml").write_text(
        OFTEN.format(source=json.dumps(str(animals)))
    )
    return home


@pytest.fixture(scope="session")
def server(ui_home: Home) -> Iterator[Server]:
    with serving(ui_home) as server:
        yield server


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: the folder that DOLLY_UI_PICTURES names, else a passing one."""
    return Path(os.environ.get(PICTURES) or tmp_path_factory.mktemp("pictures"))
