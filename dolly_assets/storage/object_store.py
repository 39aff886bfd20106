"""Keys and bytes in a local folder, in memory, on S3, Google Cloud or Azure.

It knows URLs, credentials and how stores fail. It does not know what the bytes mean. No other
module talks to a store.
"""

import asyncio
import functools
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, MemoryStore, from_url

from dolly_assets.core.errors import ArtifactError, ConfigurationError
from dolly_assets.core.urls import check_no_password, without_secrets
from dolly_assets.storage.listing import list_objects
from dolly_assets.storage.s3 import DEFAULTS, S3Settings, endpoint_of, s3_arguments

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore as RawStore

REQUEST_TIMEOUT = "120s"
WAITS_SECONDS = (0.1, 0.4, 1.6, 5.0)
BROKEN_ON_THE_WAY = re.compile(r"error sending request|body error|decoding response")
ALREADY_RETRIED = re.compile(r"after [1-9]\d* retries")
KEYS_PER_DELETE = 1000  # the most that S3's DeleteObjects accepts
REMOTE_SCHEMES = ("s3", "gs", "az")
EXPECTED_URL = (
    "a local path, file:///folder, memory:///, s3://bucket/prefix, gs://bucket/prefix or "
    "az://container/prefix"
)
# How S3, Google Cloud and Azure report that the bucket itself does not exist.
MISSING_BUCKET = re.compile(r"NoSuchBucket|bucket does not exist|ContainerNotFound")

Item = TypeVar("Item")
Result = TypeVar("Result")

# One per URL, shared by the whole process.
_memory_store = functools.cache(lambda url: MemoryStore())


class ObjectInfo(NamedTuple):
    """An object in a listing."""

    key: str
    size_bytes: int
    modified_at: datetime  # by the store's clock
    e_tag: str  # changes with the content; empty where the store has none


class ObjectStore:
    """Keys and bytes under one URL.

    What the settings leave open, S3 reads from the usual `AWS_*` variables and `~/.aws/`, Google
    Cloud from `GOOGLE_*`, Azure from `AZURE_*`. Requests that fail for a transient reason are
    repeated, with growing waits.

    Attributes:
        url: The store's URL, without a trailing slash; that of a local folder is absolute.

    Raises:
        ConfigurationError: The URL is not a store's, or its endpoint is not usable.
    """

    def __init__(self, url: str, s3: S3Settings = DEFAULTS) -> None:
        check_no_password(url, "the store's URL")
        scheme = url.split(":", 1)[0] if re.match(r"\w+:", url) else ""
        self._folder: Path | None = None
        self._s3 = s3
        if scheme in ("", "file"):
            self._folder = _local_folder(url)
            self.url = self._folder.as_uri()
            self._raw: RawStore = _open_folder(self._folder)
        elif url.startswith("memory:///"):
            self.url = url.rstrip("/") if url != "memory:///" else url
            self._raw = _memory_store(self.url)
        else:
            self.url = url.rstrip("/")
            self._raw = _open_remote(url, scheme, s3)

    def url_of(self, key: str) -> str:
        """Return the full URL of a key."""
        return f"{self.url.rstrip('/')}/{key}"

    def local_path(self, key: str) -> Path | None:
        """Return an object's path on this machine, or None if the store is not a local folder."""
        return self._folder / key if self._folder else None

    @property
    def is_remote(self) -> bool:
        """Whether requests leave this process and this machine's disk."""
        return not self.url.startswith(("file:", "memory:"))

    def size_bytes(self, key: str) -> int | None:
        """Return the object's size, or None if there is no such object."""
        found = self.stat(key)
        return found.size_bytes if found else None

    def stat(self, key: str) -> ObjectInfo | None:
        """Return what a listing has of the object, or None if there is no such object."""
        with self._explained(key):
            try:
                return _object_info(obstore.head(self._raw, key))
            except (FileNotFoundError, NotFoundError) as error:
                if MISSING_BUCKET.search(str(error)):
                    raise
                return None

    def read(self, key: str, start: int, length: int) -> memoryview:
        """Return up to `length` bytes of an object from `start`, fewer at its end.

        A start past the end is an error.
        """
        with self._explained(key):
            return memoryview(obstore.get_range(self._raw, key, start=start, length=length))

    def read_each(
        self, sizes: Mapping[str, int], take: Callable[[str, memoryview], None], at_once: int
    ) -> None:
        """Read many small objects at once.

        After the first failure no more are requested; to learn the reason, read that object on its
        own.

        Args:
            sizes: Key -> size of each object.
            take: Called with each object as it arrives, always in the same other thread.
            at_once: How many requests are in flight.
        """
        _each(
            lambda sized: obstore.get_range_async(self._raw, sized[0], start=0, length=sized[1]),
            sizes.items(),
            lambda sized, data: take(sized[0], memoryview(data)),
            at_once,
        )

    def create_each(
        self, contents: Iterable[tuple[str, bytes]], done: Callable[[str], None], at_once: int
    ) -> None:
        """Write many new small objects at once.

        After the first failure, or the first key that already exists, no more are sent.

        Args:
            contents: Keys and bytes.
            done: Called with the key of each object that was written, always in the same other
                thread.
            at_once: How many requests are in flight.
        """
        _each(
            lambda content: obstore.put_async(self._raw, content[0], content[1], mode="create"),
            contents,
            lambda content, _: done(content[0]),
            at_once,
        )

    def read_all(self, key: str) -> bytes:
        """Return a whole (small) object."""
        with self._explained(key):
            return bytes(obstore.get(self._raw, key).bytes())

    def find(self, key: str) -> bytes | None:
        """Return a whole (small) object, or None if there is no such object."""
        with self._explained(key):
            try:
                return bytes(obstore.get(self._raw, key).bytes())
            except (FileNotFoundError, NotFoundError) as error:
                if MISSING_BUCKET.search(str(error)):
                    raise
                return None

    def create(self, key: str, data: bytes) -> bool:
        """Write a new object in one put; return False, and write nothing, if the key exists.

        This very call may have created it, if the answer to a first request was lost.
        """
        with self._explained(key):
            try:
                _repeated(lambda: obstore.put(self._raw, key, data, mode="create"))
            except AlreadyExistsError:
                return False
            return True

    def write(self, key: str, data: bytes) -> None:
        """Write a small object in one put. Readers see all of it or nothing."""
        with self._explained(key):
            obstore.put(self._raw, key, data, use_multipart=False)

    def keys(self, prefix: str, *, recursive: bool = True, after: str | None = None) -> list[str]:
        """Return the sorted keys below a prefix; arguments as in `objects`."""
        return [item.key for item in self.objects(prefix, recursive=recursive, after=after)]

    def objects(
        self, prefix: str, *, recursive: bool = True, after: str | None = None
    ) -> list[ObjectInfo]:
        """Return the objects below a prefix, sorted by key.

        Args:
            prefix: Whole segments of a key.
            recursive: False lists only the objects directly in the prefix.
            after: Only keys that sort after this one; needs a recursive listing.
        """
        with self._explained(prefix):
            listed = _repeated(
                lambda: list_objects(
                    self._raw, self._folder, prefix, recursive=recursive, after=after
                )
            )
        return sorted(map(_object_info, listed))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; a missing one is not an error."""
        with self._explained(""):
            if self._folder:
                for key in keys:
                    (self._folder / key).unlink(missing_ok=True)
                return
            for start in range(0, len(keys), KEYS_PER_DELETE):
                with suppress(NotFoundError):
                    _repeated(
                        lambda some=keys[start : start + KEYS_PER_DELETE]: obstore.delete(
                            self._raw, some
                        )
                    )

    def remove_leftovers(self, prefix: str, older_than: timedelta) -> None:
        """Delete what killed writers have left in a local folder.

        Remote stores keep nothing unfinished.
        """
        if self._folder is None:
            return
        with self._explained(prefix):
            # obstore puts a # into the names of unfinished files.
            for path in (self._folder / prefix).rglob("*#*"):
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > older_than.total_seconds():
                        path.unlink()

    def make_durable(self, keys: list[str]) -> None:
        """Return when the objects would survive a power failure.

        Remote stores guarantee that with each put.
        """
        if self._folder is None:
            return
        paths = {self._folder / key for key in keys}
        with self._explained(""), ThreadPoolExecutor(8) as pool:
            # Files first: a folder's entry must not outlive the content it names.
            list(pool.map(_sync_to_disk, paths))
            list(pool.map(_sync_to_disk, {path.parent for path in paths}))

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn a store's failure into one line that names the URL and the remedy."""
        try:
            yield
        except (BaseError, OSError) as error:
            raise self._explanation(error, key) from error

    def _explanation(self, error: Exception, key: str) -> ArtifactError | ConfigurationError:
        text, where = str(error), self.url_of(key)
        if MISSING_BUCKET.search(text):
            return ConfigurationError(
                f"{self.url}: the bucket does not exist; create it or correct the URL"
            )
        if isinstance(error, FileNotFoundError | NotFoundError):
            return ArtifactError(f"{where}: there is no such object; check the URL and the name")
        if isinstance(error, InvalidPathError):
            return ArtifactError(f"{where}: {_one_safe_line(text)}; rename or delete that object")
        if re.search(r"//169\.254\.169\.254|//metadata\.google", text):
            return ConfigurationError(
                f"{self.url}: no credentials found; set {_credential_variables(self.url)}"
            )
        if "RequestTimeTooSkewed" in text:
            return ArtifactError(
                f"{where}: refused because the clocks differ: set this machine's clock"
            )
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError)
        if denied or re.search(r"Permission denied|403 Forbidden|AccessDenied", text):
            return ArtifactError(
                f"{where}: access denied; check the credentials and their permissions to list, "
                "read and write"
            )
        if "No space left" in text or "Disk quota" in text:
            return ArtifactError(f"{where}: the disk is full; free some space and publish again")
        if re.search(
            r"error sending request|tcp connect|dns error|timed? ?out", text, re.IGNORECASE
        ):
            return ArtifactError(
                f"{where}: the store cannot be reached; check the network"
                f"{_endpoint_hint(self.url, self._s3)}"
            )
        return ArtifactError(f"{where}: {_one_safe_line(text)}")


def _each(
    request: Callable[[Item], Awaitable[Result]],
    items: Iterable[Item],
    take: Callable[[Item, Result], None],
    at_once: int,
) -> None:
    """Make `at_once` requests at a time, until the store refuses one.

    All run in one thread: threads that each wait for one request spend more on taking turns than
    on the bytes. It is not the caller's thread, which may have an event loop of its own.

    Args:
        request: Makes the request for an item.
        items: What to request.
        take: Called with each item and its answer.
        at_once: How many requests are in flight.
    """
    left, is_stopped = iter(items), False

    async def work_through() -> None:
        nonlocal is_stopped
        for item in left:
            if is_stopped:
                return
            try:
                answer = await request(item)
            except (BaseError, OSError):
                is_stopped = True
                return
            take(item, answer)

    async def all_at_once() -> None:
        await asyncio.gather(*(work_through() for _ in range(at_once)))

    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(asyncio.run, all_at_once()).result()
        finally:
            is_stopped = True


def _object_info(meta: "ObjectMeta") -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"] or "")


def _repeated(request: Callable[[], Result]) -> Result:
    """Repeat what obstore does not repeat: a list, create or delete whose connection broke."""
    for wait_seconds in WAITS_SECONDS:
        try:
            return request()
        except GenericError as error:
            if not BROKEN_ON_THE_WAY.search(str(error)) or ALREADY_RETRIED.search(str(error)):
                raise
            time.sleep(wait_seconds)
    return request()


def _local_folder(url: str) -> Path:
    if not url.strip():
        raise ConfigurationError(f"the store's URL is empty: expected {EXPECTED_URL}")
    if not url.startswith("file:"):
        return Path(url).expanduser().absolute()
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ConfigurationError(
            f"{url}: a file URL has three slashes and an absolute path, file:///folder"
        )
    return Path(unquote(parts.path))


def _open_folder(folder: Path) -> LocalStore:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: cannot be a store: {error.strerror}; choose a writable folder"
        ) from error
    return LocalStore(folder)


def _open_remote(url: str, scheme: str, s3: S3Settings) -> "RawStore":
    parts = urlsplit(url)
    if parts.query:
        raise ConfigurationError(
            f"a {scheme} store's URL must not contain a query: put credentials into environment "
            "variables"
        )
    if scheme not in REMOTE_SCHEMES or not parts.netloc:
        raise ConfigurationError(f"{url!r} is not a store URL: expected {EXPECTED_URL}")
    s3_only = s3_arguments(s3) if scheme == "s3" else {}
    arguments = {
        **s3_only,
        "client_options": {"timeout": REQUEST_TIMEOUT, **s3_only.get("client_options", {})},
        "retry_config": {"max_retries": s3.max_attempts - 1},
    }
    try:
        return from_url(url, **arguments)
    except (BaseError, ValueError) as error:
        raise ConfigurationError(
            f"{url}: {_one_safe_line(str(error))}; check the URL and the environment"
        ) from error


def _endpoint_hint(url: str, s3: S3Settings) -> str:
    if not url.startswith("s3:"):
        return ""
    endpoint = urlsplit(endpoint_of(s3))
    return (
        f" and AWS_ENDPOINT_URL (now {endpoint.scheme}://{endpoint.netloc})"
        if endpoint.netloc
        else ""
    )


def _credential_variables(url: str) -> str:
    if url.startswith("gs:"):
        return "GOOGLE_SERVICE_ACCOUNT"
    return (
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        if url.startswith("s3:")
        else "AZURE_STORAGE_ACCOUNT_KEY"
    )


def _one_safe_line(text: str) -> str:
    """Return the first line of a store's message, without the secrets in its URLs."""
    return without_secrets(text.strip().splitlines()[0] if text.strip() else "unknown error")


def _sync_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
