"""Finds a dataset by its source, and reads it into canonical columns, with what is known about it.

Knows the forms of a source. Which files it has is the business of `source_files` and `layout`, how
one is read that of `formats`, and what an example is that of `schema`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from dolly_assets.core.errors import ConfigurationError, DatasetError
from dolly_assets.core.urls import check_no_password, without_secrets
from dolly_assets.datasets import demo
from dolly_assets.datasets.canonical import in_one_form
from dolly_assets.datasets.formats import NotRecordsError, format_of, read_file
from dolly_assets.datasets.hub import hub_commit, read_hub
from dolly_assets.datasets.schema import CanonicalTable
from dolly_assets.datasets.source_files import LocalFiles, RemoteFiles, version_of_files

REMOTE = ("s3://", "gs://", "az://")
DEMO = "builtin:demo"
MAX_SOURCE_CHARACTERS = 4096
HUB_ID = re.compile(
    r"(?P<name>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?"
    r"(?:#(?P<configuration>[^#]+))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Source:
    """A dataset as found at its source.

    Attributes:
        table: The examples in canonical columns.
        format: `json`, `jsonl`, `csv`, `tsv`, `parquet` or `arrow`, `hub`, or `generated`.
        dropped_columns: The columns of the source that were dropped.
        kept_columns: Canonical name -> the names of the source's columns.
        files: What was read, by name -> its examples: files, or the split on the Hub.
        left_out: What was not read, by name -> why.
        losses: What of the examples was changed or left out, in lines.
        revision: The exact version that was read: `commit:…` on the Hub, `sha256:…` of the bytes of
            a file, `digest:…` of several files. None for a generated dataset, whose code is its
            revision.
        license: The licence that the Hub or the card of a clone states, if it does.
    """

    table: pa.Table
    format: str
    dropped_columns: tuple[str, ...] = ()
    kept_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    revision: str | None = None
    license: str | None = None


def read_source(source: str) -> Source:
    """Read a dataset.

    Args:
        source: One of

            - `builtin:demo`, the generated demo dataset;
            - `s3://bucket/key`, a file in S3 or, with a `/` at its end, the files below it;
              endpoint, region and credentials from the `AWS_*` variables; `gs://…` and `az://…`
              likewise;
            - a local file, or a folder for the files below it: whatever starts with `/`, `./`,
              `../` or `~`, or exists;
            - `owner/name` or `owner/name@revision`, the train split of a dataset on the Hugging
              Face Hub.

            Files have one of the suffixes `formats.SUFFIXES`. Of a folder with splits, the train
            split is read; `#name` at the end of a folder, prefix or Hub id chooses one of several
            configurations. Files follow each other by name.

    Raises:
        DatasetError: The source is none of these, cannot be reached, or its content is not a
            dataset.
    """
    place = _place_of(source)
    if place.kind == "builtin":
        return Source(demo.generate(), "generated")
    if place.kind == "hub":
        return _read_hub(place)
    return _read_files(place)


def source_version(source: str) -> str | None:
    """Return a version of a source that changes when `read_source` would read something else.

    It is cheap: no data is read from a store or the Hub.

    Returns:
        The Hub's commit, the ETags of objects in a store, or the SHA-256 of local files; None for a
        generated dataset.

    Raises:
        DatasetError: The source cannot be reached, or contains nothing.
    """
    place = _place_of(source)
    if place.kind == "builtin":
        return None
    if place.kind == "hub":
        return f"commit:{hub_commit(place.name, place.revision)}"
    return _files(place).version()


def absolute_source(source: str) -> str:
    """Return a source in a form that names the same from every folder of this machine."""
    _check(source)
    for path, configuration in ((source, None), _split(source)):
        if _exists(path):
            absolute = str(Path(path).expanduser().resolve())
            return f"{absolute}#{configuration}" if configuration else absolute
    return source


class _Place(NamedTuple):
    kind: Literal["builtin", "remote", "local", "hub"]
    name: str
    configuration: str | None = None
    revision: str | None = None


def _place_of(source: str) -> _Place:
    """Return which of the forms a source has; the first that applies."""
    _check(source)
    if source == DEMO:
        return _Place("builtin", source)
    if source.startswith("builtin:"):
        raise DatasetError(f"{source}: there is no such built-in dataset; the only one is {DEMO}")
    if source.startswith(REMOTE):
        prefix, configuration = _split(source)
        if not prefix.endswith("/"):
            return _Place("remote", source)  # the # is part of a key
        return _Place("remote", prefix, configuration)
    path, configuration = (source, None) if _exists(source) else _split(source)
    if path.startswith(("/", "./", "../", "~")) or (_exists(path) and Path(path).is_file()):
        return _Place("local", path, configuration)
    if match := HUB_ID.fullmatch(source):
        return _Place("hub", match["name"], match["configuration"], match["revision"])
    shown = without_secrets(source)  # such as a presigned URL
    raise DatasetError(
        f"{shown!r} is not a dataset source; expected {DEMO}, s3://bucket/key, a Hub id "
        f"owner/name[@revision], or a file, and there is no file {Path(shown).absolute()}"
    )


def _split(source: str) -> tuple[str, str | None]:
    """Return a source without the name of a configuration behind its last `#`, and that name."""
    path, mark, configuration = source.rpartition("#")
    return (path, configuration) if mark and path and configuration else (source, None)


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # a name that is too long; no home
        return False


def _check(source: str) -> None:
    """Refuse a source of excessive length, or with a password, which errors and logs would show."""
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise DatasetError(
            f"{source[:40]!r}… is not a dataset source: it has {len(source):,} characters; "
            f"expected at most {MAX_SOURCE_CHARACTERS:,}"
        )
    try:
        check_no_password(source, "the source")
    except ConfigurationError as error:
        raise DatasetError(str(error)) from error


def _files(place: _Place) -> LocalFiles | RemoteFiles:
    find = RemoteFiles if place.kind == "remote" else LocalFiles
    return find(place.name, place.configuration)


def _read_files(place: _Place) -> Source:
    files = _files(place)
    layout, parts, left_out = files.layout, dict[str, CanonicalTable](), dict[str, str]()
    with files.on_disk() as paths:
        for name, path in zip(layout.files, paths, strict=True):
            try:
                parts[name] = read_file(path, source=files.where(name))
            except NotRecordsError:
                left_out[name] = "JSON, but no array of objects"
                if len(left_out) == len(layout.files):
                    raise
        revision = version_of_files(paths)
    kept: dict[str, tuple[str, ...]] = {}
    for part in parts.values():
        for canonical, theirs in part.kept_columns.items():
            kept[canonical] = tuple(dict.fromkeys((*kept.get(canonical, ()), theirs)))
    dropped = dict.fromkeys(name for part in parts.values() for name in part.dropped_columns)
    return Source(
        table=in_one_form([part.table for part in parts.values()]),
        format="+".join(sorted({format_of(name) for name in parts})),
        dropped_columns=tuple(dropped),
        kept_columns=kept,
        files={name: part.table.num_rows for name, part in parts.items()},
        left_out={**layout.left_out, **left_out},
        losses=tuple(
            line if len(parts) == 1 else f"{name}: {line}"
            for name, part in parts.items()
            for line in part.losses
        ),
        revision=revision,
        license=layout.license,
    )


def _read_hub(place: _Place) -> Source:
    found = read_hub(place.name, place.revision, place.configuration)
    table, dropped, kept, losses = found.canonical
    return Source(
        table=table,
        format="hub",
        dropped_columns=dropped,
        kept_columns={canonical: (theirs,) for canonical, theirs in kept.items()},
        files={"split train": table.num_rows},
        left_out={f"split {split}": f"{rows:,} rows" for split, rows in found.left_out.items()},
        losses=losses,
        revision=f"commit:{found.commit}",
        license=found.license,
    )
