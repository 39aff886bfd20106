"""Which paths are pages, and what a browser lets each of them do.

`/` lists all pages, `/FAMILY/ASSET/DATASET[/EPOCH]/DIGEST/FILE.html` is the page of an artifact
whose kind has one, and `/live/…/report.html` that of a running training. It knows no HTTP beyond
the headers' values.
"""

import re
import threading
import time
from dataclasses import dataclass

from dolly_assets.registry.pages import page_of, page_of_name
from dolly_assets.report_server.index import index_page
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.conventions import LIVE
from dolly_assets.storage.object_store import ObjectStore

# None of these characters is ever percent-encoded, so paths are compared as they arrive.
_SEGMENT = r"[\w-][\w.-]*"
_PAGE = re.compile(
    rf"(?P<name>{_SEGMENT}(?:/{_SEGMENT}){{2,3}})/(?P<digest>[0-9a-f]{{64}})/(?P<file>[a-z]+\.html)",
    re.ASCII,
)
_LIVE_PAGE = re.compile(rf"{LIVE}(?:/{_SEGMENT}){{3}}/report\.html", re.ASCII)
MOST_PAGE_BYTES = 64 << 20  # a report of a long training has a few MiB
INDEX_SECONDS = 10  # how long a list of the store is shown, so that readers cannot overload it

_LOCKED = (
    "default-src 'none'; style-src 'unsafe-inline'; {more}form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; sandbox{allow}"
)
STATIC = _LOCKED.format(more="", allow="")
"""The policy of what needs no script."""
# A report is one file that loads nothing; Vega makes functions of its expressions. In a sandbox the
# page has an origin of its own: it shares nothing with other pages of this server or its host.
SCRIPTED = _LOCKED.format(more="script-src 'unsafe-inline' 'unsafe-eval'; ", allow=" allow-scripts")
"""The policy of a report."""

FOR_AN_HOUR = "private, max-age=3600"  # an artifact's page never changes, but may be withdrawn
NEVER_KEPT = "no-store"


@dataclass(frozen=True)
class Page:
    """A page, and the values of its headers.

    Attributes:
        body: The HTML.
        policy: Its Content-Security-Policy.
        cache: Its Cache-Control.
    """

    body: bytes
    policy: str
    cache: str


class Pages:
    """The pages of a store.

    Args:
        store: Where the artifacts are.
        objects: The same store's objects, for live reports.
    """

    def __init__(self, store: ArtifactStore, objects: ObjectStore) -> None:
        self._store, self._objects = store, objects
        self._index, self._index_until = b"", 0.0
        self._index_lock = threading.Lock()

    def find(self, path: str) -> Page | None:
        """Return the page of a path, given without its first slash; None if there is none.

        Raises:
            DollyError: The artifact is not in the store, or the store fails.
        """
        if not path:
            return Page(self._current_index(), STATIC, NEVER_KEPT)
        if _LIVE_PAGE.fullmatch(path):
            found, cache = self._live(path), NEVER_KEPT
        elif wanted := _PAGE.fullmatch(path):
            found = self._published(wanted["name"], wanted["digest"], wanted["file"])
            cache = FOR_AN_HOUR
        else:
            return None
        return None if found is None else Page(found, SCRIPTED, cache)

    def _live(self, key: str) -> bytes | None:
        size_bytes = self._objects.size_bytes(key)
        if size_bytes is None or size_bytes > MOST_PAGE_BYTES:
            return None
        return self._objects.find(key)

    def _published(self, name: str, digest: str, file: str) -> bytes | None:
        """Return the page of an artifact; None unless it is the page of the artifact's kind."""
        if file != page_of_name(name):
            return None
        artifact = self._store.get(name, digest)
        if file != page_of(artifact):
            return None
        (size_bytes,) = (item.size_bytes for item in artifact.manifest.files if item.path == file)
        return artifact.read_bytes(file) if size_bytes <= MOST_PAGE_BYTES else None

    def _current_index(self) -> bytes:
        with self._index_lock:
            if time.monotonic() >= self._index_until:
                self._index = index_page(self._store, self._objects)
                self._index_until = time.monotonic() + INDEX_SECONDS
            return self._index
