"""A server over a trained home, as users start it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets_tests.home import Home

TOKEN = "a-token-that-nobody-guesses"


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    url: str
    process: subprocess.Popen[str]
    home: Home

    def client(self, **options: Any) -> Any:
        """OpenAI's client of it."""
        from openai import OpenAI

        return OpenAI(**{"base_url": self.url, "api_key": TOKEN, "max_retries": 0, **options})

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        import httpx

        root = self.url.removesuffix("/v1")
        text = httpx.get(f"{root}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
        return sum(map(float, re.findall(rf"^dolly_serve_{name}(?:{{.*}})? (\S+)$", text, re.M)))

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.home.path / "store"), self.home.path / "cache")


@contextmanager
def serving(home: Home, *arguments: str) -> Iterator[Served]:
    """Runs `dolly serve` on a free port; it must end well."""
    script = "from dolly_assets.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "serve", "--port", "0", *arguments],
        env={
            **os.environ,
            **home.variables,
            "DOLLY_DEFS": "",  # the store is enough
            "DOLLY_SERVE_TOKEN": TOKEN,
            "OMP_NUM_THREADS": "1",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        first = process.stderr.readline()
        found = re.fullmatch(r"serving: (http://\S+)\n", first)
        assert found, first + process.stderr.read()
        yield Served(found[1], process, home)
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 0, rest
        assert TOKEN not in rest
        assert "Traceback" not in rest, rest
    finally:
        process.kill()


@pytest.fixture(scope="module")
def served(trained: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server over a copy of `trained`, which tests may publish to."""
    home = Home(Path(shutil.copytree(trained.path, tmp_path_factory.mktemp("served") / "home")))
    with serving(home, "--max-tokens", "100", "tiny/animals/2") as served:
        yield served
