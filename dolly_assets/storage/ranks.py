"""Publishing from many ranks and nodes: each says in the store what it has uploaded, one collects and commits.

    pending/<attempt>/<rank>.json  the files of one rank, written when all its content is stored

Only the store is needed between them. An attempt is one try of one publication: its id is the same
on all ranks and never used again, so that what is left of a try that died cannot get into the next.
"""

import re
import time
from collections.abc import Sequence
from typing import Literal

from pydantic import ValidationError

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.manifest import SCHEMA_VERSION, FileEntry, one_line, seal, unseal
from dolly_assets.storage.object_store import ObjectStore

FOLDER = "pending"
POLL_SECONDS = 0.5


class RankFiles(Config):
    """What one rank has uploaded."""

    schema_version: Literal[1] = SCHEMA_VERSION
    rank: int
    files: tuple[FileEntry, ...]
    sent_bytes: int = 0  # the store lacked so much of them


def announce(
    store: ObjectStore, attempt: str, rank: int, files: Sequence[FileEntry], sent_bytes: int
) -> None:
    """Says that a rank's files are stored. Naming the same files again changes nothing.

    Raises:
        ArtifactError: the rank has announced other files in this attempt.
    """
    key = f"{_folder(attempt)}/{rank}.json"
    said = RankFiles(rank=rank, files=tuple(files), sent_bytes=sent_bytes)
    if (
        not store.create(key, seal(said.model_dump(mode="json")))
        and read(store, key).files != said.files
    ):
        raise ArtifactError(
            f"rank {rank} has announced other files in attempt {attempt!r}: take a new attempt id"
        )


def collect(
    store: ObjectStore, attempt: str, ranks: int, timeout_seconds: float
) -> list[RankFiles]:
    """Waits until all ranks, 0 to `ranks` - 1, have announced their files, and returns what they said.

    Raises:
        ArtifactError: the time is over; it names the ranks that are missing.
    """
    expected = {f"{_folder(attempt)}/{rank}.json": rank for rank in range(ranks)}
    deadline = time.monotonic() + timeout_seconds
    while missing := expected.keys() - set(store.keys(_folder(attempt))):
        if time.monotonic() > deadline:
            who = ", ".join(str(rank) for rank in sorted(expected[key] for key in missing))
            raise ArtifactError(
                f"attempt {attempt!r}: rank {who} of {ranks} has not uploaded its files within {timeout_seconds:g} s; "
                "nothing is published: look for what ended it, and publish again with a new attempt id"
            )
        time.sleep(POLL_SECONDS)
    return [read(store, key) for key in expected]


def read(store: ObjectStore, key: str) -> RankFiles:
    """One rank's announcement; raises ArtifactError when it is damaged."""
    try:
        return RankFiles.model_validate(unseal(store.read_all(key)))
    except (ValueError, ValidationError) as error:
        raise ArtifactError(f"{store.url_of(key)} is damaged: {one_line(error)}") from error


def forget(store: ObjectStore, attempt: str) -> None:
    """Removes what the ranks announced, after the commit."""
    store.delete(store.keys(_folder(attempt)))


def _folder(attempt: str) -> str:
    if not re.fullmatch(r"[\w.=-]+", attempt, re.ASCII) or not attempt.strip("."):
        raise ArtifactError(f"attempt id {attempt!r}: expected letters, digits and any of _ . = -")
    return f"{FOLDER}/{attempt}"
