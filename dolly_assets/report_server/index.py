"""The page that lists all reports: live ones first, then those of each family and dataset.

Others may write to the store: all text is escaped, and what cannot be read is left out.
"""

from collections.abc import Iterable
from html import escape
from itertools import groupby
from typing import NamedTuple
from urllib.parse import quote

from pydantic import ValidationError

from dolly_assets.core.errors import DollyError
from dolly_assets.core.names import epoch_key
from dolly_assets.core.text import duration
from dolly_assets.profiling.report import REPORT_FILE
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.pages import page_of, page_of_name
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.flow import in_parallel
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.profiles.live import live_folders, read_state

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Reports</title>
<style>
  body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; }}
  body {{ margin: 2rem auto; padding: 0 1rem; }}
  h1, h2 {{ font-size: 1.2rem; }} h2 {{ margin: 1.6rem 0 .2rem; }}
  a {{ color: inherit; }}
  table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
  td {{ border-top: 1px solid #8886; padding: .2rem 1.5rem .2rem 0; }}
</style>
</head>
<body>
<h1>Reports</h1>
{sections}
</body>
</html>
"""
_NONE = "<p>No reports yet: a training has one soon after its first step.</p>"


class _Entry(NamedTuple):
    """A report in the list."""

    section: str
    epoch: str
    what: str
    path: str
    when: str


def index_page(store: ArtifactStore, objects: ObjectStore) -> bytes:
    """Return the page that lists the newest report of each epoch and training.

    Raises:
        DollyError: The store fails.
    """
    entries = [*_live(objects), *sorted(_published(store))]
    sections = (
        f"<h2>{escape(section)}</h2>\n{_table(of_section)}"
        for section, of_section in groupby(entries, lambda entry: entry.section)
    )
    return _PAGE.format(sections="\n".join(sections) or _NONE).encode()


def _table(entries: Iterable[_Entry]) -> str:
    rows = (
        f'<tr><td><a href="{quote(entry.path)}">{escape(entry.what)}</a></td>'
        f"<td>{escape(entry.when)}</td></tr>"
        for entry in entries
    )
    return f"<table>\n{''.join(rows)}\n</table>"


def _live(objects: ObjectStore) -> list[_Entry]:
    found = in_parallel(lambda folder: _live_entry(objects, folder), live_folders(objects))
    return [entry for _, entry in sorted(item for item in found if item)]


def _live_entry(objects: ObjectStore, folder: str) -> tuple[float, _Entry] | None:
    """Return seconds since the last refresh, and the report; None if it has ended."""
    try:
        state = read_state(objects, folder)
    except ValidationError:
        return None
    if state is None or state.ended:
        return None
    epoch = epoch_key(state.epoch)
    age_seconds = max(0.0, state.seconds_since_refresh)
    what = f"{state.family} on {state.dataset}, epoch {epoch}"
    when = f"refreshed {duration(age_seconds)} ago"
    return age_seconds, _Entry("Live", epoch, what, f"{folder}/{REPORT_FILE}", when)


def _published(store: ArtifactStore) -> list[_Entry]:
    now = store.snapshot()
    found = in_parallel(lambda name: _published_entry(now, name), now.names(), at_once=32)
    return [entry for entry in found if entry]


def _published_entry(store: ArtifactStore, name: str) -> _Entry | None:
    """Return the newest report of a name; None if it has none, or cannot be read."""
    try:
        artifact = store.latest(name) if page_of_name(name) else None
    except DollyError:
        return None
    page = page_of(artifact) if artifact else ""
    if not artifact or not page:
        return None
    address = ArtifactAddress.parse(name)
    epoch = "" if address.epoch is None else epoch_key(address.epoch)
    return _Entry(
        f"{address.family} on {address.dataset}",
        epoch,
        address.asset + (f", epoch {epoch}" if epoch else ""),
        f"{name}/{artifact.digest}/{page}",
        f"{artifact.manifest.created_at:%Y-%m-%d %H:%M} UTC",
    )
