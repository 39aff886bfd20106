"""The link of a report: it opens over HTTP whatever the store is, and nothing else is served."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from dolly_assets.dagster_support.events import materialization_of
from dolly_assets.report_server import report_server
from dolly_assets.storage import Artifact, ArtifactStore
from dolly_assets.storage.object_store import ObjectStore

PAGE = "<!DOCTYPE html><title>é</title>"
LIVE_KEY = "live/tiny/animals/a-run/report.html"


@pytest.fixture
def artifact(shared_url: str, tmp_path: Path) -> Artifact:
    folder = tmp_path / "profile"
    folder.mkdir()
    (folder / "report.html").write_text(PAGE, encoding="utf-8")
    (folder / "summary.json").write_text("{}")
    store = ArtifactStore(shared_url, tmp_path / "cache")
    return store.publish("tiny/gpu_profile/animals/01", folder, kind="gpu_profile")


@pytest.fixture
def address(
    artifact: Artifact, shared_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Where reports are served, in a folder as well as on S3."""
    objects = ObjectStore(shared_url)
    objects.write(LIVE_KEY, PAGE.encode())
    server = report_server(ArtifactStore(shared_url, tmp_path / "reader"), objects, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("DOLLY_REPORTS_URL", url)
    yield url
    server.shutdown()
    server.server_close()


def test_the_link_in_the_metadata_opens_the_report_and_nothing_else_is_served(
    artifact: Artifact, address: str
) -> None:
    link = str(materialization_of(artifact).metadata["report"].value)
    assert link.startswith(address)
    for url in (link, f"{address}/{LIVE_KEY}"):
        answer = requests.get(url, timeout=30)
        assert (answer.status_code, answer.text) == (200, PAGE)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    manifest = artifact.manifest.key
    for path in (
        link.replace("report.html", "summary.json"),
        link.replace("report.html", "other.html"),
        link.replace(artifact.digest, "0" * 64),
        f"{address}/{manifest}",
        f"{address}/live/tiny/../../{manifest}",
        f"{address}/live/tiny/animals/%2e%2e/report.html",
        f"{address}/",
    ):
        assert requests.get(path, timeout=30).status_code == 404, path
