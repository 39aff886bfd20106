"""The files of a source on this machine or in an object store, and which of them are read.

Knows where files are and how to get them, not what is in them. Listing a folder of this machine is
bounded: it ends, whatever folder that is.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dolly_assets.core.errors import ArtifactError, ConfigurationError, DatasetError
from dolly_assets.datasets.formats import SUFFIXES, format_of
from dolly_assets.datasets.layout import Layout, choose_files
from dolly_assets.storage.object_store import ObjectInfo, ObjectStore
from dolly_assets.storage.s3 import S3Settings

DOWNLOAD_BYTES = 16 * 2**20
MAX_DESCRIPTION_BYTES = 2**20
MAX_ENTRIES = 100_000
"""Limit of the files and folders in a local folder: more is not a dataset but a disk."""


class LocalFiles:
    """A file of this machine, or the files of a folder.

    Args:
        path: The file or folder, which may begin with `~`.
        configuration: The configuration to read of a folder that has several.

    Raises:
        DatasetError: There is no such file, or the folder is not that of a dataset.
    """

    def __init__(self, path: str, configuration: str | None) -> None:
        with _explained(path):
            self._path = Path(path).expanduser().absolute()
            self.layout = self._layout(configuration)

    def where(self, name: str) -> str:
        """Return what errors call a file."""
        return str(self._folder / name)

    @contextmanager
    def on_disk(self) -> Iterator[list[Path]]:
        """Provide the files to read as files of this machine."""
        with _explained(str(self._path)):
            yield [self._folder / name for name in self.layout.files]

    def version(self) -> str:
        """Return a value that changes with the content of the files to read."""
        with self.on_disk() as paths:
            return version_of_files(paths)

    def _layout(self, configuration: str | None) -> Layout:
        if self._path.is_file():
            self._folder = self._path.parent
            return _single_file(self._path.name, configuration, str(self._path))
        if not self._path.is_dir():
            raise DatasetError(
                f"{self._path}: no such file; check the path of the dataset's source"
            )
        self._folder = self._path
        return choose_files(
            _names_below(self._path),
            self._read_description,
            source=str(self._path),
            configuration=configuration,
        )

    def _read_description(self, name: str) -> bytes:
        with (self._folder / name).open("rb") as file:
            return file.read(MAX_DESCRIPTION_BYTES)


class RemoteFiles:
    """An object, or all objects below a prefix that ends in `/`.

    Args:
        url: The URL of the object or prefix.
        configuration: The configuration to read of a prefix that has several.

    Raises:
        DatasetError: There is no such object, or what is below the prefix is not a dataset.
    """

    def __init__(self, url: str, configuration: str | None) -> None:
        scheme, _, rest = url.partition("://")
        bucket, _, key = rest.partition("/")
        if not bucket or not key:
            raise DatasetError(
                f"{url}: expected {scheme}://bucket/key, the key being that of a file, or a prefix "
                "with /"
            )
        if not key.endswith("/"):
            format_of(key)  # fails before a request if the file could not be read
        with _explained(url):
            self._objects = ObjectStore(f"{scheme}://{bucket}", S3Settings(max_attempts=4))
            self._found = self._listed(key)
        if not self._found:
            raise DatasetError(f"{url}: no such object; check bucket and key")
        with _explained(url):
            self.layout = (
                choose_files(
                    self._found, self._read_description, source=url, configuration=configuration
                )
                if key.endswith("/")
                else _single_file(next(iter(self._found)), configuration, url)
            )

    def where(self, name: str) -> str:
        """Return what errors call a file."""
        return self._objects.url_of(self._found[name].key)

    @contextmanager
    def on_disk(self) -> Iterator[list[Path]]:
        """Provide the files to read as files of this machine."""
        with TemporaryDirectory(prefix="dataset-") as folder:
            paths = [
                Path(folder) / str(number) / name.rpartition("/")[2]
                for number, name in enumerate(self.layout.files)
            ]
            with _explained(folder):
                for name, path in zip(self.layout.files, paths, strict=True):
                    _download(self._objects, self._found[name], path)
            yield paths

    def version(self) -> str:
        """Return a value that changes with the files to read."""
        chosen = [self._found[name] for name in self.layout.files]
        return _digest_of(
            (self._objects.url_of(file.key), file.size_bytes, file.e_tag) for file in chosen
        )

    def _listed(self, key: str) -> dict[str, ObjectInfo]:
        """Return the object of a key, or those below it, by name."""
        if not key.endswith("/"):
            found = self._objects.stat(key)
            return {key.rpartition("/")[2]: found} if found else {}
        below = {
            found.key.removeprefix(key): found for found in self._objects.objects(key.rstrip("/"))
        }
        return {name: found for name, found in below.items() if not _is_hidden(name)}

    def _read_description(self, name: str) -> bytes:
        found = self._found[name]
        size_bytes = min(found.size_bytes, MAX_DESCRIPTION_BYTES)
        return bytes(self._objects.read(found.key, 0, size_bytes)) if size_bytes else b""


def version_of_files(paths: list[Path]) -> str:
    """Return `sha256:…` of a file, or `digest:…` of several."""
    digests = [_file_sha256(path) for path in paths]
    return f"sha256:{digests[0]}" if len(paths) == 1 else _digest_of(digests)


def _single_file(name: str, configuration: str | None, source: str) -> Layout:
    if configuration is not None:
        raise DatasetError(
            f"{source}: a file has no configurations; leave out #{configuration}, or name a folder"
        )
    return Layout((name,))


def _names_below(folder: Path) -> list[str]:
    """Return the files below a folder that are not hidden, as paths with `/`."""
    if folder.resolve().parent == folder.resolve():
        raise DatasetError(f"{folder}: the whole file system; name the folder of one dataset")
    names: list[str] = []
    entries = 0
    for place, folders, files in os.walk(folder, onerror=_raise):
        entries += len(folders) + len(files)
        if entries > MAX_ENTRIES:
            raise DatasetError(
                f"{folder}: more than {MAX_ENTRIES:,} files and folders; name the folder of one "
                "dataset"
            )
        folders[:] = [name for name in folders if not _is_hidden(name)]
        below = Path(place).relative_to(folder)
        names += [(below / name).as_posix() for name in files if not _is_hidden(name)]
    is_file = {name: (folder / name).is_file() for name in names}
    for name in names:
        if name.lower().endswith(SUFFIXES) and not is_file[name] and (folder / name).is_symlink():
            raise DatasetError(
                f"{folder / name}: a link to a file that is missing; copy the folder with its files"
            )
    return [name for name in names if is_file[name]]


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _raise(error: OSError) -> None:
    raise error


def _download(objects: ObjectStore, file: ObjectInfo, path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb") as stream:
        while stream.tell() < file.size_bytes:
            stream.write(
                objects.read(
                    file.key, stream.tell(), min(DOWNLOAD_BYTES, file.size_bytes - stream.tell())
                )
            )


def _digest_of(parts: Iterable[object]) -> str:
    return f"digest:{hashlib.sha256(repr(list(parts)).encode()).hexdigest()}"


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _explained(source: str) -> Iterator[None]:
    try:
        yield
    except (ArtifactError, ConfigurationError) as error:
        raise DatasetError(str(error)) from error
    except OSError as error:
        raise DatasetError(
            f"{error.filename or source}: cannot be read: {error.strerror or error}"
        ) from error
    except RuntimeError as error:  # of expanduser: a user without a home
        raise DatasetError(f"{source}: {error}; write the whole path") from error
