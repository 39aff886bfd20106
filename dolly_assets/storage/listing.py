"""Lists the objects of a store, in a local folder also beside files whose names are no keys.

One such name, with a control character or not in UTF-8, makes obstore refuse the whole listing. It
knows neither what is listed nor how failures are worded.
"""

import functools
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, InvalidPathError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore as RawStore

logger = logging.getLogger(__name__)

UNFINISHED = re.compile(r"#\d+$")  # obstore's name of a file that is being written


def list_objects(
    raw: "RawStore", folder: Path | None, prefix: str, *, recursive: bool, after: str | None
) -> "list[ObjectMeta]":
    """Return the objects below a prefix.

    Args:
        raw: The store.
        folder: Where it is on this machine, if it is.
        prefix: Whole segments of a key.
        recursive: False lists only the objects directly in the prefix.
        after: Only keys that sort after this one; needs a recursive listing.

    Raises:
        InvalidPathError: A remote store holds an object whose name is no key.
    """
    try:
        if recursive:
            return [meta for page in obstore.list(raw, prefix, offset=after) for meta in page]
        return list(obstore.list_with_delimiter(raw, prefix)["objects"])
    except InvalidPathError:
        if folder is None:
            raise
        paths = (folder / prefix).rglob("*") if recursive else (folder / prefix).glob("*")
        found = _with_a_key(raw, folder, paths)
        return [meta for meta in found if after is None or meta["path"] > after]


def _with_a_key(raw: "RawStore", folder: Path, paths: Iterator[Path]) -> "Iterator[ObjectMeta]":
    for path in paths:
        key = path.relative_to(folder).as_posix()
        if UNFINISHED.search(key) or not path.is_file():
            continue
        try:
            yield obstore.head(raw, key)
        except (BaseError, OSError, ValueError):
            _warn(path)


@functools.cache
def _warn(path: Path) -> None:
    """Say it once: a folder is listed again and again."""
    logger.warning("passed over %r: rename or delete it", str(path))
