"""The inbox: a folder or an object store's prefix into which users put new datasets.

`name.jsonl` is the dataset `name`, and so are all files below `name/`. The inbox knows names, sizes
and ETags; the content of a file is checked when `raw_dataset` reads it. Nothing in it is ever moved
or deleted.

| next to it | meaning |
| --- | --- |
| `name.yaml` or `name/dataset.yaml` | card: license, answers and description of the dataset |
| `name.done` or `name/_SUCCESS` | the dataset is complete, even if it changed just now |
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ArtifactError, ConfigurationError, DatasetError
from dolly_assets.core.names import check_dataset_name
from dolly_assets.core.yaml_text import MAX_YAML_BYTES, read_yaml
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.formats import SUFFIXES
from dolly_assets.storage.object_store import ObjectInfo, ObjectStore
from dolly_assets.storage.s3 import S3Settings
from dolly_assets.storage.s3_names import list_any_names

CARD, FOLDER_CARD = ".yaml", "dataset.yaml"
MARKER, FOLDER_MARKER = ".done", "_SUCCESS"
STILL_WRITTEN = (".tmp", ".part", ".partial", ".crdownload", ".filepart", "~")


class Card(Config):
    """The card of a dataset, `name.yaml`."""

    license: str = Field(
        default="unknown", description="Licence of the data: an SPDX id or the Hub's tag."
    )
    answers: str = Field(
        default="open",
        pattern="^(open|exact)$",
        description="Kind of answers; `exact` means that each question has one right answer.",
    )
    description: str = Field(default="", description="What the dataset contains.")


@dataclass(frozen=True)
class Arrival:
    """A dataset in the inbox, as a listing shows it.

    Attributes:
        name: Its name as it was found, which is a dataset's name only if there is no problem.
        source: Where raw_dataset finds it: a file, or a folder with a `/` at its end.
        files: The files with examples.
        card: The card, if there is one.
        is_marked_complete: Whether a marker states that it is complete.
        problem: Why it is rejected, or None.
    """

    name: str
    source: str
    files: tuple[ObjectInfo, ...]
    card: ObjectInfo | None
    is_marked_complete: bool
    problem: str | None

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change when a file or the card is added, removed or rewritten.

        They change even if it is rewritten with the same content: its ETag would be the same, but
        its time is not.
        """
        parts = [*self.files, *([self.card] if self.card else [])]
        versions = [
            (part.key, part.size_bytes, part.e_tag, part.modified_at.isoformat()) for part in parts
        ]
        return hashlib.sha256(repr(versions).encode()).hexdigest()[:16]


class Inbox:
    """Lists the datasets that have arrived.

    Args:
        url: A folder of this machine, or `s3://bucket/prefix` and the like.
    """

    def __init__(self, url: str) -> None:
        self._s3 = S3Settings(max_attempts=4)
        self._objects = ObjectStore(url, self._s3)

    @property
    def url(self) -> str:
        """The URL in which datasets arrive."""
        return self._objects.url

    def arrivals(self) -> dict[str, Arrival]:
        """Return every dataset in the inbox by its name, even if it is incomplete or unusable.

        Raises:
            ArtifactError: The inbox cannot be listed.
        """
        found = [item for item in self._listed() if not _is_hidden(item.key)]
        by_name = groupby(
            sorted(found, key=lambda item: _name_of(item.key)), key=lambda item: _name_of(item.key)
        )
        arrivals = (self._arrival(name, list(files)) for name, files in by_name)
        return {arrival.name: arrival for arrival in arrivals if arrival}

    def _listed(self) -> list[ObjectInfo]:
        """Return every object in the inbox, even one whose name is no key, by a name to show."""
        folder = self._objects.local_path("")
        try:
            found = self._objects.objects("")
        except ArtifactError as error:
            # Beside an object whose name is no key, obstore lists nothing of a remote store.
            if "invalid path" not in str(error) or not self.url.startswith("s3:"):
                raise
            found = list_any_names(self.url, self._s3)
        if folder:
            found += _odd_files(folder)
        return [item._replace(key=_shown(item.key)) for item in found]

    def config(self, arrival: Arrival) -> DatasetConfig:
        """Return the dataset as the catalogue knows it.

        Raises:
            DatasetError: The dataset is rejected, or its card is wrong.
        """
        if arrival.problem:
            raise DatasetError(f"{arrival.source}: {arrival.problem}")
        card = self._card(arrival.card) if arrival.card else Card()
        # Without a schedule, since the inbox itself is watched.
        own = {"name": arrival.name, "source": arrival.source, "schedule": None}
        return DatasetConfig.model_validate({**own, **card.model_dump()})

    def _card(self, card: ObjectInfo) -> Card:
        """Read a card, and no more of a file that is too long to be one."""
        start = self._objects.read(card.key, 0, MAX_YAML_BYTES + 1) if card.size_bytes else b""
        try:
            return read_yaml(Card, bytes(start), self._objects.url_of(card.key))
        except ConfigurationError as error:
            raise DatasetError(str(error)) from error

    def _arrival(self, name: str, found: list[ObjectInfo]) -> Arrival | None:
        in_folder = [item for item in found if "/" in item.key]
        at_top = [item for item in found if "/" not in item.key]
        cards = [item for item in found if item.key in (name + CARD, f"{name}/{FOLDER_CARD}")]
        markers = [item for item in found if item.key in (name + MARKER, f"{name}/{FOLDER_MARKER}")]
        rest = [item for item in found if item not in (*cards, *markers)]
        if not rest:
            return None  # a card or a marker that is waiting for its dataset
        files = tuple(item for item in rest if item.key.lower().endswith(SUFFIXES))
        source = (
            f"{name}/"
            if in_folder and not [item for item in at_top if item in files]
            else rest[0].key
        )
        return Arrival(
            name=name,
            source=self._source(source),
            files=files or tuple(rest),
            card=cards[0] if cards else None,
            is_marked_complete=bool(markers),
            problem=_problem(name, rest, files),
        )

    def _source(self, key: str) -> str:
        local = self._objects.local_path(key)
        return (
            self._objects.url_of(key)
            if local is None
            else f"{local}/"
            if key.endswith("/")
            else str(local)
        )


def _is_key(name: str) -> bool:
    """Whether every store can list a name."""
    return name == _shown(name) and "//" not in name


def _odd_files(folder: Path) -> Iterator[ObjectInfo]:
    """Yield what a listing would have of the files whose names are no keys, and passes over."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not _is_key(name):
            with suppress(OSError):  # it is gone
                if path.is_file():
                    size, seconds = path.stat().st_size, path.stat().st_mtime
                    yield ObjectInfo(name, size, datetime.fromtimestamp(seconds, UTC), "")


def _shown(name: str) -> str:
    """Return a name without control characters and what is no UTF-8, which are escaped."""
    return ascii(name)[1:-1] if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name) else name


def _is_hidden(key: str) -> bool:
    """Whether a file is one that programs keep for themselves or are still writing."""
    return any(part.startswith(".") for part in key.split("/")) or key.lower().endswith(
        STILL_WRITTEN
    )


def _name_of(key: str) -> str:
    """Return the dataset of a key: the name of its folder, or of the file without its suffix."""
    folder, slash, _ = key.partition("/")
    if slash:
        return folder
    suffixes = sorted((*SUFFIXES, CARD, MARKER), key=len, reverse=True)
    return next((key[: -len(suffix)] for suffix in suffixes if key.lower().endswith(suffix)), key)


def _problem(name: str, rest: Iterable[ObjectInfo], files: tuple[ObjectInfo, ...]) -> str | None:
    """Return why a dataset is rejected, or None."""
    try:
        check_dataset_name(name)
    except DatasetError as error:
        return str(error)
    odd = next((item.key for item in rest if not _is_key(item.key) or "\\" in item.key), None)
    if odd:
        return f"{odd}: not a name that every store can list: rename it, without // and escapes"
    if not files:
        return f"no readable file; expected names that end in one of {', '.join(SUFFIXES)}"
    at_top = [item.key for item in rest if "/" not in item.key]
    if len(at_top) > 1 or (at_top and len(files) > 1):
        found = ", ".join(sorted(item.key for item in rest)[:5])
        return (
            f"several files claim the name {name!r} ({found}): "
            f"keep one, or put them all into {name}/"
        )
    return None
