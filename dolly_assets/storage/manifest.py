"""The record of a publication: files with sizes and hashes, origin, time.

It does no input or output.
"""

import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    JsonValue,
    model_validator,
)

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.hashing import canonical_json_digest
from dolly_assets.core.text import one_line

SCHEMA_VERSION = 1
WITH_DESCRIPTIONS = 2  # of a manifest that has some: a reader of version 1 would count them
BLOBS = "blobs/sha256"
RECORDS = "manifests"
DIGEST_IN_KEY = 16  # hex digits of the digest in a manifest's key
CLOCKS_APART = timedelta(days=1)  # of the machines that publish into one store
TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"  # fixed width, so that keys sort by time
RECORD = re.compile(rf"\d{{8}}T\d{{6}}\.\d{{6}}Z-[0-9a-f]{{{DIGEST_IN_KEY}}}\.json")


def check_path(path: str) -> str:
    """Return a name or file path unchanged.

    Raises:
        ValueError: It is not a plain relative path, and could lead out of its folder.
    """
    if not path or any(segment in ("", ".", "..") for segment in path.split("/")):
        raise ValueError(
            f"{path!r} is not a relative path: empty, '.' and '..' segments are not allowed"
        )
    if "\\" in path or any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError(f"{path!r} contains a backslash or a control character")
    if not path.isascii() and path.encode(errors="replace").decode() != path:
        raise ValueError(f"{path!r} is not valid Unicode; rename the file")
    return path


RelativePath = Annotated[str, AfterValidator(check_path)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Blob(NamedTuple):
    """A piece of content as the store holds it, named by its hash."""

    sha256: str
    start: int  # its offset in its file, in bytes
    size_bytes: int

    @property
    def key(self) -> str:
        """Its key in the store."""
        return f"{BLOBS}/{self.sha256[:2]}/{self.sha256}"


class FileEntry(Config):
    """One file of an artifact. A big file is stored in chunks of equal size, except the last."""

    path: RelativePath  # relative to the artifact, segments separated by "/"
    size_bytes: int = Field(ge=0, lt=2**62)  # so that a store can be asked for one byte more
    sha256: Sha256  # of the whole file
    chunk_bytes: int = Field(default=0, ge=0, exclude_if=lambda value: not value)
    # Empty if one blob is the whole file.
    chunks: tuple[Sha256, ...] = Field(default=(), exclude_if=lambda value: not value)
    # Whether it only describes the others, such as a picture: the digest leaves it out.
    is_description: bool = Field(default=False, exclude_if=lambda value: not value)

    @model_validator(mode="after")
    def _check_chunks(self) -> Self:
        expected = math.ceil(self.size_bytes / self.chunk_bytes) if self.chunk_bytes else 0
        if len(self.chunks) != expected:
            raise ValueError(f"{self.path!r} has {len(self.chunks)} chunks instead of {expected}")
        return self

    @property
    def blobs(self) -> list[Blob]:
        """The pieces in which the file is stored, in order; at least one."""
        if not self.chunks:
            return [Blob(self.sha256, 0, self.size_bytes)]
        starts = range(0, self.size_bytes, self.chunk_bytes)
        sizes = (min(self.chunk_bytes, self.size_bytes - start) for start in starts)
        return [Blob(*blob) for blob in zip(self.chunks, starts, sizes, strict=True)]

    @property
    def blob_key(self) -> str:
        """The key in the store of the file's content, or of the first piece of it."""
        return self.blobs[0].key


class Manifest(Config):
    """The record of one publication.

    Equal content has an equal `digest`, regardless of who published it, when, and with which
    pictures, previews and reports beside it.
    """

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    name: RelativePath  # for example "demo/model_checkpoint/demo/01"
    kind: str  # for example "model_checkpoint"
    files: tuple[FileEntry, ...] = Field(min_length=1)  # sorted by path
    # Input name -> digest of the artifact it was made from.
    inputs: dict[str, str] = Field(default={})
    attributes: dict[str, JsonValue] = Field(default={})  # metrics and other properties
    made_by: dict[str, str] = Field(default={})  # run id, code version, host
    # How much of the content the store lacked, so that it was sent.
    sent_bytes: int | None = Field(default=None, exclude_if=lambda value: value is None)
    created_at: AwareDatetime

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        paths = [entry.path for entry in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("files are not sorted by path, or a path is listed twice")
        known = set(paths)
        for path in paths:
            parents = ("/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1))
            if clash := next((parent for parent in parents if parent in known), None):
                raise ValueError(f"{clash!r} is both a file and the folder of {path!r}")
        return self

    @model_validator(mode="after")
    def _check_descriptions(self) -> Self:
        """Keep descriptions apart from what programs load.

        The digest does not bind them, so whoever can write a record can add one to it. None may
        appear in a folder of weights or of a training's state.
        """
        described = [entry.path for entry in self.files if entry.is_description]
        if path := next((path for path in described if "/" in path), None):
            raise ValueError(f"{path!r} is a description, but not at the top of the artifact")
        if len(described) == len(self.files):
            raise ValueError("every file is a description: at least one must be described")
        if self.schema_version != version_with(self.files):
            raise ValueError(f"schema_version is {self.schema_version}, which its files contradict")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the list of files, without descriptions, in hex.

        It does not depend on how files are split into chunks.
        """
        return _digest_of(entry for entry in self.files if not entry.is_description)

    @property
    def tree_digest(self) -> str:
        """The same of all files: what names a tree of them on this machine."""
        return _digest_of(self.files)

    @property
    def size_bytes(self) -> int:
        """The total size of all files."""
        return sum(entry.size_bytes for entry in self.files)

    @property
    def key(self) -> str:
        """The key of this record in the store."""
        stamp = self.created_at.astimezone(UTC).strftime(TIME_FORMAT)
        return f"{records_prefix(self.name)}/{stamp}-{self.digest[:DIGEST_IN_KEY]}.json"

    def to_json(self) -> bytes:
        """Return the record as stored: the fields, the digest, and a hash over both."""
        try:
            return seal(self.model_dump(mode="json") | {"digest": self.digest})
        except ValueError as error:
            raise ArtifactError(
                f"artifact {self.name}: an attribute is NaN or infinite, which JSON lacks: {error}"
            ) from error

    @classmethod
    def from_json(cls, data: bytes, key: str) -> Self:
        """Read and check a record.

        Args:
            data: What `to_json` has returned.
            key: Where it was found.

        Raises:
            ArtifactError: It is not a record, was changed since it was written, or belongs
                elsewhere.
        """
        try:
            record = unseal(data)
            digest = record.pop("digest", None)
            manifest = cls.model_validate(record)
            if (digest, key) != (manifest.digest, manifest.key):
                raise ValueError(f"it describes {manifest.key} with digest {manifest.digest}")
        except ValueError as error:
            raise ArtifactError(f"manifest {key} is damaged: {one_line(error)}") from error
        return manifest


def version_with(files: Iterable[FileEntry]) -> Literal[1, 2]:
    """Return the schema version of a manifest with these files: the lowest that has their keys."""
    return WITH_DESCRIPTIONS if any(entry.is_description for entry in files) else SCHEMA_VERSION


def _digest_of(files: Iterable[FileEntry]) -> str:
    return canonical_json_digest(
        [entry.model_dump(include={"path", "size_bytes", "sha256"}) for entry in files]
    )


def seal(record: dict[str, Any]) -> bytes:
    """Return a record as JSON with a hash of itself, so that `unseal` detects any change."""
    sealed = record | {"record_sha256": canonical_json_digest(record)}
    return json.dumps(sealed, indent=1, ensure_ascii=False).encode()


def unseal(data: bytes) -> dict[str, Any]:
    """Read what `seal` has returned.

    Raises:
        ValueError: It is something else, or was changed.
    """
    try:
        record = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    if (version := record.get("schema_version")) not in (SCHEMA_VERSION, WITH_DESCRIPTIONS):
        raise ValueError(
            f"schema_version is {version!r}, this program reads {SCHEMA_VERSION} and "
            f"{WITH_DESCRIPTIONS}"
        )
    if record.pop("record_sha256", None) != canonical_json_digest(record):
        raise ValueError("its content does not match its record_sha256")
    return record


def records_prefix(name: str) -> str:
    """Return the folder of a name's records."""
    return f"{RECORDS}/{name}"


def is_record(key: str) -> bool:
    """Return whether a key is that of a manifest; other objects below `manifests/` are not ours.

    Nor is one whose time is impossible or lies ahead of all clocks: it would stay the newest of its
    name, whatever is published.
    """
    if not RECORD.fullmatch(key.rpartition("/")[2]):
        return False
    try:
        return record_time(key) < datetime.now(UTC) + CLOCKS_APART
    except ValueError:
        return False


def name_in(key: str) -> str:
    """Return the artifact's name in a record's key."""
    return key.removeprefix(records_prefix("")).rpartition("/")[0]


def record_time(key: str) -> datetime:
    """Return the time in a record's key."""
    stamp = key.rpartition("/")[2].partition("-")[0]
    return datetime.strptime(stamp, TIME_FORMAT).replace(tzinfo=UTC)


def sorted_entries(entries: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    """Return entries in the order of a manifest."""
    return tuple(sorted(entries, key=lambda entry: entry.path))
