"""Finds a dataset by its source, and reads it into canonical columns, with what is known about it.

Knows where examples come from. How a file is read is the business of `formats`, and what an example
is that of `schema`.
"""

import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from dolly_assets.core.errors import ArtifactError, ConfigurationError, DatasetError
from dolly_assets.core.urls import check_no_password, without_secrets
from dolly_assets.datasets import demo
from dolly_assets.datasets.formats import SUFFIXES, format_of, read_file
from dolly_assets.datasets.schema import canonical_from_table
from dolly_assets.storage.object_store import ObjectInfo, ObjectStore
from dolly_assets.storage.s3 import S3Settings

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import DatasetInfo

REMOTE = ("s3://", "gs://", "az://")
DEMO = "builtin:demo"
DOWNLOAD_BYTES = 16 * 2**20
TOO_MANY_REQUESTS = 429
PATIENCE_SECONDS = 120
"""Most seconds to wait for a source that asks for patience."""
HUB_ID = re.compile(r"(?P<name>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A dataset as found at its source.

    Attributes:
        table: The examples in canonical columns.
        format: `json`, `jsonl`, `csv` or `parquet`, `hub`, or `generated`.
        dropped_columns: The columns of the source that were dropped.
        revision: The exact version that was read: `commit:…` on the Hub, `sha256:…` of the bytes of
            a file, `digest:…` of several files. None for a generated dataset, whose code is its
            revision.
        license: The licence that the Hub states, if it does.
    """

    table: pa.Table
    format: str
    dropped_columns: tuple[str, ...] = ()
    revision: str | None = None
    license: str | None = None


def read_source(source: str) -> Source:
    """Read a dataset.

    Args:
        source: One of

            - `builtin:demo`, the generated demo dataset;
            - `s3://bucket/key`, a file in S3 or, with a `/` at its end, all files below it;
              endpoint, region and credentials from the `AWS_*` variables; `gs://…` and `az://…`
              likewise;
            - a local file, or a folder for all files below it: whatever starts with `/`, `./`,
              `../` or `~`, or exists;
            - `owner/name` or `owner/name@revision`, the train split of a dataset on the Hugging
              Face Hub.

            Files are JSON, JSONL, CSV or Parquet; see `formats.SUFFIXES`. Those of a folder follow
            each other by name.

    Raises:
        DatasetError: The source is none of these, cannot be reached, or its content is not a
            dataset.
    """
    _check_no_password(source)
    if source.startswith("builtin:"):
        if source != DEMO:
            raise DatasetError(
                f"{source}: there is no such built-in dataset; the only one is {DEMO}"
            )
        return Source(demo.generate(), "generated")
    if source.startswith(REMOTE):
        return _read_remote(source)
    if _is_local(source):
        return _read_local(source)
    if match := HUB_ID.fullmatch(source):
        return _read_hub(match["name"], match["revision"])
    shown = without_secrets(source)  # such as a presigned URL
    raise DatasetError(
        f"{shown!r} is not a dataset source; expected {DEMO}, s3://bucket/key, a Hub id "
        f"owner/name[@revision], or a file, and there is no file {Path(shown).absolute()}"
    )


def source_version(source: str) -> str | None:
    """Return a version of a source that changes when `read_source` would read something else.

    It is cheap: no data is read from a store or the Hub.

    Returns:
        The Hub's commit, the ETags of objects in a store, or the SHA-256 of local files; None for a
        generated dataset.

    Raises:
        DatasetError: The source cannot be reached, or contains nothing.
    """
    _check_no_password(source)
    if source.startswith(REMOTE):
        objects, files = _remote_files(source)
        return _digest_of((objects.url_of(file.key), file.size_bytes, file.e_tag) for file in files)
    if _is_local(source):
        return _version_of_files(_local_files(source))
    if match := HUB_ID.fullmatch(source):
        return f"commit:{_hub_info(match['name'], match['revision']).sha}"
    return None


def _check_no_password(source: str) -> None:
    """Refuse a source with a password, which errors, logs and the catalogue would show."""
    try:
        check_no_password(source, "the source")
    except ConfigurationError as error:
        raise DatasetError(str(error)) from error


def _read_local(source: str) -> Source:
    files = _local_files(source)
    try:
        return _source_of_files(files, [str(path) for path in files])
    except OSError as error:
        raise DatasetError(
            f"{error.filename or source}: cannot be read: {error.strerror or error}"
        ) from error


def _local_files(source: str) -> list[Path]:
    path = Path(source).expanduser().absolute()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f"{path}: no such file; check the path of the dataset's source")
    files = sorted(
        file
        for file in path.rglob("*")
        if _is_part(file.relative_to(path).as_posix()) and file.is_file()
    )
    if not files:
        raise DatasetError(
            f"{path}: a folder without dataset files; expected names that end in "
            f"{', '.join(SUFFIXES)}"
        )
    return files


def _read_remote(source: str) -> Source:
    objects, files = _remote_files(source)
    with tempfile.TemporaryDirectory(prefix="dataset-") as folder:
        paths = [
            Path(folder) / str(number) / file.key.rpartition("/")[2]
            for number, file in enumerate(files)
        ]
        try:
            for file, path in zip(files, paths, strict=True):
                _download(objects, file, path)
        except (ArtifactError, ConfigurationError) as error:
            raise DatasetError(str(error)) from error
        return _source_of_files(paths, [objects.url_of(file.key) for file in files])


def _remote_files(source: str) -> tuple[ObjectStore, list[ObjectInfo]]:
    """Return the object that a URL names; with a `/` at its end, the dataset files below it."""
    scheme, _, rest = source.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket or not key:
        raise DatasetError(
            f"{source}: expected {scheme}://bucket/key, the key being that of a file, or a prefix "
            "with /"
        )
    if not key.endswith("/"):
        format_of(key)  # fails before a request if the file could not be read
    try:
        objects = ObjectStore(f"{scheme}://{bucket}", S3Settings(max_attempts=4))
        if not key.endswith("/"):
            found = objects.stat(key)
            files = [found] if found else []
        else:
            files = [
                found
                for found in objects.objects(key.rstrip("/"))
                if _is_part(found.key.removeprefix(key))
            ]
    except (ArtifactError, ConfigurationError) as error:
        raise DatasetError(str(error)) from error
    if not files:
        raise DatasetError(f"{source}: no such object; check bucket and key")
    return objects, files


def _download(objects: ObjectStore, file: ObjectInfo, path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb") as stream:
        while stream.tell() < file.size_bytes:
            stream.write(
                objects.read(
                    file.key, stream.tell(), min(DOWNLOAD_BYTES, file.size_bytes - stream.tell())
                )
            )


def _is_part(name: str) -> bool:
    """Whether a file below a dataset's folder contains examples; hidden files do not."""
    return name.lower().endswith(SUFFIXES) and not any(
        part.startswith(".") for part in name.split("/")
    )


def _source_of_files(paths: list[Path], names: list[str]) -> Source:
    read = [read_file(path, source=name) for path, name in zip(paths, names, strict=True)]
    formats = {format_of(path.name) for path in paths}
    dropped = dict.fromkeys(name for part in read for name in part.dropped_columns)
    table = pa.concat_tables([part.table for part in read])
    return Source(table, "+".join(sorted(formats)), tuple(dropped), _version_of_files(paths))


def _version_of_files(paths: list[Path]) -> str:
    digests = [_file_sha256(path) for path in paths]
    return f"sha256:{digests[0]}" if len(paths) == 1 else _digest_of(digests)


def _digest_of(parts: Iterable[object]) -> str:
    return f"digest:{hashlib.sha256(repr(list(parts)).encode()).hexdigest()}"


def _is_local(source: str) -> bool:
    return source.startswith(("/", "./", "../", "~")) or Path(source).is_file()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_hub(name: str, revision: str | None) -> Source:
    from datasets import load_dataset

    source = f"{name}@{revision}" if revision else name
    info = _hub_info(name, revision)  # first, so that a known commit is loaded
    with _hub_problems_explained(source):
        split = load_dataset(name, revision=info.sha, split="train")
    table, dropped_columns = canonical_from_table(split.data.table, source=source)
    license_id = info.card_data.get("license") if info.card_data else None
    return Source(table, "hub", dropped_columns, f"commit:{info.sha}", license_id)


def _hub_info(name: str, revision: str | None) -> "DatasetInfo":
    from huggingface_hub import HfApi

    with _hub_problems_explained(f"{name}@{revision}" if revision else name):
        return _patiently(lambda: HfApi().dataset_info(name, revision=revision))


def _patiently(ask: Callable[[], "DatasetInfo"]) -> "DatasetInfo":
    """Retry while the Hub states when to, for `PATIENCE_SECONDS` in all."""
    from huggingface_hub.errors import HfHubHTTPError

    left_seconds = PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except HfHubHTTPError as error:
            wait_seconds = _retry_after_seconds(error)
            if wait_seconds is None or wait_seconds > left_seconds:
                raise
            left_seconds -= max(wait_seconds, 1)
            time.sleep(wait_seconds)


def _retry_after_seconds(error: "HfHubHTTPError") -> int | None:
    """Return how long a response 429 asks to wait, if it states seconds."""
    stated = (
        error.response.headers.get("Retry-After", "")
        if error.response.status_code == TOO_MANY_REQUESTS
        else ""
    )
    return int(stated) if stated.isdigit() else None


@contextmanager
def _hub_problems_explained(source: str) -> Iterator[None]:
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
    from huggingface_hub.errors import HTTPError as ConnectionFailure  # pyright: ignore[reportPrivateImportUsage]

    try:
        yield
    except RevisionNotFoundError as error:
        raise DatasetError(
            f"{source}: the Hub does not have this revision, or no longer: name another one, or "
            "none for the newest; what was read before is kept"
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code == TOO_MANY_REQUESTS:
            raise DatasetError(
                f"{source}: the Hub responded with too many requests (429) for longer than "
                f"{PATIENCE_SECONDS} s: materialize it again later, or set HF_TOKEN for a higher "
                "limit"
            ) from error
        raise DatasetError(
            f"{source}: the Hub does not serve this dataset ({_first_line(error)}); check name and "
            "revision, and HF_TOKEN if it is private"
        ) from error
    except (DatasetsError, ValueError) as error:
        # Unreadable files, several configurations, no train split.
        reason = _first_line(error.__cause__ or error)
        raise DatasetError(
            f"{source}: found on the Hub, but its train split cannot be loaded: {reason}"
        ) from error
    except (ConnectionFailure, OSError) as error:  # no connection, offline mode, a time-out
        raise DatasetError(
            f"{source}: the Hub cannot be reached ({_first_line(error)}); go online, or name a "
            "file instead"
        ) from error


def _first_line(error: BaseException) -> str:
    return without_secrets(str(error).strip().partition("\n")[0])
