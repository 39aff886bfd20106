"""Finds a dataset by its source, reads it into canonical columns and tells what is known about it.

It knows where examples come from. How a file is read is `formats`' business, what an example is `schema`'s.
"""

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dolly_assets.datasets import demo
from dolly_assets.datasets.formats import format_of, read_file
from dolly_assets.datasets.schema import canonical_from_table
from dolly_assets.errors import ArtifactError, ConfigurationError, DatasetError
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.s3 import S3Settings

DEMO = "builtin:demo"
DOWNLOAD_BYTES = 16 * 2**20
HUB_ID = re.compile(r"(?P<name>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A dataset as it was found at its source.

    Attributes:
        table: The examples in canonical columns.
        format: `json`, `jsonl`, `csv` or `parquet`; `hub`; or `generated`.
        dropped_columns: The columns of the source that no example has.
        revision: What was read, exactly: `commit:…` on the Hub, `sha256:…` of a file's bytes. None for a generated
            dataset, whose code is its revision.
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
            - `s3://bucket/key`, a file in S3; endpoint, region and credentials from the `AWS_*` variables;
            - a local file: whatever starts with `/`, `./`, `../` or `~`, or exists as a file;
            - `owner/name` or `owner/name@revision`, the train split of a dataset on the Hugging Face Hub.

            Files are JSON, JSONL, CSV or Parquet; see `formats.SUFFIXES`.

    Raises:
        DatasetError: The source is none of these, cannot be reached, or its content is not a dataset.
    """
    if source.startswith("builtin:"):
        if source != DEMO:
            raise DatasetError(f"{source}: there is no such built-in dataset; the only one is {DEMO}")
        return Source(demo.generate(), "generated")
    if source.startswith("s3://"):
        return _read_s3(source)
    if _is_local(source):
        return _read_local(source)
    if match := HUB_ID.fullmatch(source):
        return _read_hub(match["name"], match["revision"])
    raise DatasetError(
        f"{source!r} is no dataset source; expected {DEMO}, s3://bucket/key, a Hub id owner/name[@revision], "
        f"or a file, and there is no file {Path(source).absolute()}"
    )


def _read_local(source: str) -> Source:
    path = Path(source).expanduser().absolute()
    if path.is_dir():
        raise DatasetError(f"{path} is a folder; name the one file in it that holds the examples")
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; check the path of the dataset's source")
    try:
        return _source_of_file(path, str(path))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_s3(source: str) -> Source:
    bucket, _, key = source.removeprefix("s3://").partition("/")
    if not bucket or not key or key.endswith("/"):
        raise DatasetError(f"{source}: expected s3://bucket/key, the key being that of one file")
    format_of(key)  # nothing is downloaded that cannot be read
    with tempfile.TemporaryDirectory(prefix="dataset-") as folder:
        path = Path(folder) / Path(key).name
        try:
            _download(ObjectStore(f"s3://{bucket}", S3Settings(max_attempts=4)), key, path)
        except (ArtifactError, ConfigurationError) as error:
            raise DatasetError(str(error)) from error
        return _source_of_file(path, source)


def _download(store: ObjectStore, key: str, path: Path) -> None:
    size_bytes = store.size_bytes(key)
    if size_bytes is None:
        raise DatasetError(f"{store.url_of(key)}: no such object; check bucket and key")
    with path.open("wb") as file:
        while file.tell() < size_bytes:
            file.write(store.read(key, file.tell(), min(DOWNLOAD_BYTES, size_bytes - file.tell())))


def _source_of_file(path: Path, source: str) -> Source:
    table, dropped_columns = read_file(path, source=source)
    return Source(table, format_of(path.name), dropped_columns, _file_revision(path))


def local_revision(source: str) -> str | None:
    """What `read_source` would now give as the revision of a local file; None for other sources."""
    path = Path(source).expanduser().absolute()
    return _file_revision(path) if _is_local(source) and path.is_file() else None


def _is_local(source: str) -> bool:
    return source.startswith(("/", "./", "../", "~")) or Path(source).is_file()


def _file_revision(path: Path) -> str:
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _read_hub(name: str, revision: str | None) -> Source:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.errors import HTTPError as ConnectionFailure  # pyright: ignore[reportPrivateImportUsage]

    source = f"{name}@{revision}" if revision else name
    try:
        # Asked first, so that what is loaded is one known commit.
        info = HfApi().dataset_info(name, revision=revision)
        split = load_dataset(name, revision=info.sha, split="train")
    except HfHubHTTPError as error:
        raise DatasetError(
            f"{source}: the Hub does not serve this dataset ({_first_line(error)}); check name and revision, "
            "and HF_TOKEN if it is private"
        ) from error
    except (
        DatasetsError,
        ValueError,
    ) as error:  # files that cannot be read, several configurations, no train split
        reason = _first_line(error.__cause__ or error)
        raise DatasetError(f"{source}: found on the Hub, but its train split cannot be loaded: {reason}") from error
    except (ConnectionFailure, OSError) as error:  # no connection, offline mode, a time-out
        raise DatasetError(
            f"{source}: the Hub cannot be reached ({_first_line(error)}); go online, or name a file instead"
        ) from error
    table, dropped_columns = canonical_from_table(split.data.table, source=source)
    license_id = info.card_data.get("license") if info.card_data else None
    return Source(table, "hub", dropped_columns, f"commit:{info.sha}", license_id)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
