"""A report server of a store, asked over plain sockets: no client tidies up what it is sent."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dolly_assets.report_server.pages import Pages
from dolly_assets.report_server.server import ReportServer
from dolly_assets.storage import Artifact, ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.report_server.raw import PAGE

Serve = Callable[..., str]
PublishPage = Callable[..., Artifact]


@pytest.fixture
def publish_page(tmp_path: Path) -> PublishPage:
    """Publishes one page as the file of an artifact."""

    def publish(
        store: ArtifactStore, name: str, file: str = "report.html", kind: str = "", page: str = PAGE
    ) -> Artifact:
        path = tmp_path / "page"
        path.write_text(page, encoding="utf-8")
        return store.publish(name, {file: path}, kind=kind or name.split("/")[1])

    return publish


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves a store, and returns the server's address."""
    servers: list[ReportServer] = []

    def serve(store_url: str, url: str | None = None, *, host: str = "127.0.0.1") -> str:
        pages = Pages(ArtifactStore(store_url, tmp_path / "reader"), ObjectStore(store_url))
        server = ReportServer(pages, host, 0, url)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://{host}:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
