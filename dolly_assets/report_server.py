"""Serves reports to a browser: a small read-only HTTP server over a store of any kind.

`/FAMILY/ASSET/DATASET[/EPOCH]/DIGEST/FILE.html` is a page of an artifact, `/live/…/report.html`
that of a running training. Nothing else is served; readers need no credentials for the store.
"""

import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from dolly_assets.core.errors import DollyError
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.conventions import LIVE
from dolly_assets.storage.object_store import ObjectStore

_PAGE = re.compile(r"(?P<name>[^/]+(?:/[^/]+)+)/(?P<digest>[0-9a-f]{64})/(?P<file>[\w-]+\.html)")
_LIVE_PAGE = re.compile(rf"{LIVE}(?:/[\w-][\w.-]*){{3}}/report\.html")
# A page is one file that loads nothing; Vega makes functions of its expressions.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data:"
)


def report_server(
    store: ArtifactStore, objects: ObjectStore, host: str, port: int
) -> ThreadingHTTPServer:
    """Return a server that listens; call its `serve_forever`.

    Raises:
        OSError: The address is in use.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            try:
                page = find_page(store, objects, path)
            except DollyError as error:
                self._answer(HTTPStatus.NOT_FOUND, str(error).encode(), "text/plain")
                return
            if page is None:
                self._answer(HTTPStatus.NOT_FOUND, b"no such report", "text/plain")
            else:
                self._answer(HTTPStatus.OK, page, "text/html")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", _POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 as in the base class
            """Log nothing."""

    return ThreadingHTTPServer((host, port), Handler)


def find_page(store: ArtifactStore, objects: ObjectStore, path: str) -> bytes | None:
    """Return the page of a path; None if there is none.

    Raises:
        DollyError: The artifact is not in the store, or the store fails.
    """
    if _LIVE_PAGE.fullmatch(path):
        return objects.find(path)
    wanted = _PAGE.fullmatch(path)
    if not wanted:
        return None
    artifact = store.get(wanted["name"], wanted["digest"])
    files = {entry.path for entry in artifact.manifest.files}
    return artifact.read_bytes(wanted["file"]) if wanted["file"] in files else None
