"""Publishing from many ranks and nodes: each announces its files, one collects and commits them.

    pending/<attempt>/<rank>.json  the files of one rank, written when all its content is stored

They communicate through the store alone. An attempt is one attempt at one publication: its id is
the same on all ranks and never used again, so that what is left of an attempt that died cannot get
into the next one.
"""

import re
import time
from collections.abc import Sequence
from typing import Literal

from pydantic import ValidationError

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.text import one_line
from dolly_assets.storage.manifest import SCHEMA_VERSION, FileEntry, seal, unseal
from dolly_assets.storage.object_store import ObjectStore

FOLDER = "pending"
POLL_SECONDS = 0.5


class RankFiles(Config):
    """The files that one rank has uploaded."""

    schema_version: Literal[1] = SCHEMA_VERSION
    rank: int
    files: tuple[FileEntry, ...]
    sent_bytes: int = 0  # how much of them the store lacked


def announce(
    store: ObjectStore, attempt: str, rank: int, files: Sequence[FileEntry], sent_bytes: int
) -> None:
    """Announce that a rank's files are stored. Announcing the same files again changes nothing.

    Args:
        store: The store that all ranks share.
        attempt: Id of the attempt.
        rank: Which rank this is.
        files: What it has uploaded.
        sent_bytes: How much of it the store lacked.

    Raises:
        ArtifactError: The rank has announced other files in this attempt.
    """
    key = f"{_folder(attempt)}/{rank}.json"
    announced = RankFiles(rank=rank, files=tuple(files), sent_bytes=sent_bytes)
    if (
        not store.create(key, seal(announced.model_dump(mode="json")))
        and _read(store, key, store.read_all(key)).files != announced.files
    ):
        raise ArtifactError(
            f"rank {rank} has announced other files in attempt {attempt!r}: use a new attempt id"
        )


def collect(
    store: ObjectStore, attempt: str, ranks: int, timeout_seconds: float
) -> list[RankFiles]:
    """Wait until all ranks, 0 to `ranks` - 1, have announced their files, and return them.

    Raises:
        ArtifactError: The time is over; the message names the ranks that are missing.
    """
    expected = {f"{_folder(attempt)}/{rank}.json": rank for rank in range(ranks)}
    deadline = time.monotonic() + timeout_seconds
    while missing := expected.keys() - set(store.keys(_folder(attempt))):
        if time.monotonic() > deadline:
            who = ", ".join(str(rank) for rank in sorted(expected[key] for key in missing))
            raise ArtifactError(
                f"attempt {attempt!r}: rank {who} of {ranks} has not uploaded its files within "
                f"{timeout_seconds:g} s; nothing is published: find out what ended it, and publish "
                "again with a new attempt id"
            )
        time.sleep(POLL_SECONDS)
    return [_read(store, key, store.read_all(key)) for key in expected]


def find(store: ObjectStore, key: str) -> RankFiles | None:
    """Return one rank's announcement, if it is there.

    Raises:
        ArtifactError: It is damaged.
    """
    announced = store.find(key)
    return None if announced is None else _read(store, key, announced)


def _read(store: ObjectStore, key: str, announced: bytes) -> RankFiles:
    try:
        return RankFiles.model_validate(unseal(announced))
    except (ValueError, ValidationError) as error:
        raise ArtifactError(f"{store.url_of(key)} is damaged: {one_line(error)}") from error


def forget(store: ObjectStore, attempt: str) -> None:
    """Delete the announcements of all ranks, after the commit."""
    store.delete(store.keys(_folder(attempt)))


def _folder(attempt: str) -> str:
    if not re.fullmatch(r"[\w.=-]+", attempt, re.ASCII) or not attempt.strip("."):
        raise ArtifactError(f"attempt id {attempt!r}: expected letters, digits and any of _ . = -")
    return f"{FOLDER}/{attempt}"
