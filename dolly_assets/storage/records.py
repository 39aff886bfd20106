"""Reads records, and remembers on this machine what it has read: a record never changes.

Which records there are, only the store knows. What is remembered of one counts only while the
store lists it with the same entity tag, and is checked like what the store sends; so the file may
be deleted at any time, and whatever is wrong with it, records are read from the store instead.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.flow import SMALL_AT_ONCE, in_parallel
from dolly_assets.storage.manifest import Manifest
from dolly_assets.storage.object_store import ObjectInfo, ObjectStore

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

FOLDER = "records"  # in the cache of this machine
AT_ONCE = 1000  # whose JSON is in memory
KEYS_PER_QUERY = 500  # SQLite has allowed at least 999 parameters in every version
WAIT_SECONDS = 10.0  # for other processes
TABLE = """
    CREATE TABLE IF NOT EXISTS record (
        key TEXT PRIMARY KEY, e_tag TEXT NOT NULL, json BLOB NOT NULL
    )
    WITHOUT ROWID
"""


class Records:
    """Reads the records of one store. Several processes may remember in the same folder at once.

    Args:
        store: Where records are. Those of a store on this machine are not remembered.
        cache_dir: Where this machine keeps copies.
    """

    def __init__(self, store: ObjectStore, cache_dir: Path) -> None:
        self._store = store
        name = hashlib.sha256(store.url.encode()).hexdigest()[:16]
        folder = cache_dir.expanduser().absolute() / FOLDER
        self._file = folder / f"{name}.sqlite" if store.is_remote else None

    def read(self, listed: Sequence[ObjectInfo]) -> Iterator[Manifest]:
        """Yield the manifests of records, in their order.

        Those that garbage collection has removed since they were listed are left out.

        Raises:
            ArtifactError: A record is damaged, or the store fails.
        """
        for some in _slices(listed, AT_ONCE):
            found = self._remembered(some)
            unknown = [item for item in some if item.key not in found]
            sent = in_parallel(self._store.find, [item.key for item in unknown], SMALL_AT_ONCE)
            new: dict[str, bytes] = {}
            for item, data in zip(unknown, sent, strict=True):
                if data is not None:
                    found[item.key] = Manifest.from_json(data, item.key)
                    new[item.key] = data
            self._remember(unknown, new)
            yield from (found[item.key] for item in some if item.key in found)

    def forget_unless_few(self, listed: int) -> None:
        """Forget everything if most of it is of records that the store has no more.

        Args:
            listed: How many records the store has.
        """
        if self._file is None or not self._file.exists():
            return
        try:
            with closing(self._connect(self._file)) as database, database:
                [remembered] = database.execute("SELECT count(*) FROM record").fetchone()
                if remembered > 2 * listed + AT_ONCE:
                    database.execute("DELETE FROM record")
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _remembered(self, listed: Sequence[ObjectInfo]) -> dict[str, Manifest]:
        """Return what is remembered of these records, by key."""
        found: dict[str, Manifest] = {}
        if self._file is None or not self._file.exists():
            return found
        tags = {item.key: item.e_tag for item in listed if item.e_tag}
        try:
            with closing(self._connect(self._file)) as database:
                for keys in _slices([*tags], KEYS_PER_QUERY):
                    places = ",".join("?" * len(keys))
                    rows = database.execute(
                        f"SELECT key, e_tag, json FROM record WHERE key IN ({places})",  # noqa: S608
                        keys,
                    )
                    for key, e_tag, data in rows:
                        if e_tag == tags[key]:
                            found[key] = Manifest.from_json(data, key)
        except (sqlite3.Error, OSError, ArtifactError) as error:
            self._give_up(error)
        return found

    def _remember(self, listed: Sequence[ObjectInfo], new: Mapping[str, bytes]) -> None:
        rows = [
            (item.key, item.e_tag, new[item.key])
            for item in listed
            if item.e_tag and item.key in new
        ]
        if self._file is None or not rows:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect(self._file)) as database, database:
                database.execute(TABLE)
                database.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _connect(self, file: Path) -> sqlite3.Connection:
        database = sqlite3.connect(file, timeout=WAIT_SECONDS)
        database.execute("PRAGMA synchronous = OFF")  # what a power failure damages is read again
        return database

    def _give_up(self, error: Exception) -> None:
        """Forget everything, unless another process has it locked: the store is asked instead."""
        logger.debug("%s: %s", self._file, error)
        if self._file and "locked" not in str(error):
            with suppress(OSError):
                self._file.unlink()


def _slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[at : at + size] for at in range(0, len(items), size))
