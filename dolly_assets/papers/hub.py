"""A folder as a model repository on the Hub: created private, never overwritten blindly, sent once.

The head commit of a repository states what is in it: one that this program made names the
artifact's digest. If another is the head, somebody has changed the repository, or it never was
ours. Knows the Hub's client and its answers, and nothing of what the folder holds.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dolly_assets.core.errors import ConfigurationError, HubError
from dolly_assets.core.text import flat, one_line
from dolly_assets.core.urls import without_secrets

_TITLE = "dolly_assets: "
_CREATED = frozenset({".gitattributes"})
"""What a repository holds that was only created."""
_UNAUTHORIZED = 401
_MEANINGS = {
    401: "the Hub knows no such token: set HF_TOKEN to a token with write access, or run hf auth "
    "login",
    403: "the token may not write there, or the repository is gated: use a token with write access "
    "to it, or accept the repository's terms on the Hub",
    404: "there is no such repository, or the token may not see it: check OWNER/NAME and HF_TOKEN",
    409: "it was created or changed at the same time: run the same command again",
    412: "it was changed at the same time: run the same command again",
    413: "a file is larger than the Hub accepts",
    429: "the Hub limits how often it is asked: wait some minutes, then run the same command again",
}


class Pushed(NamedTuple):
    """What a push did.

    Attributes:
        url: The repository's address.
        sent: Whether anything was sent, and the repository did not hold the digest already.
    """

    url: str
    sent: bool


class HubRepository:
    """A model repository on the Hub, with the token of this process's environment.

    Args:
        name: `OWNER/NAME`.

    Raises:
        ConfigurationError: The name has another form.
    """

    def __init__(self, name: str) -> None:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise ConfigurationError(f"--to {name!r}: {one_line(error)}") from error
        if name.count("/") != 1:
            raise ConfigurationError(f"--to {name!r}: expected OWNER/NAME, such as my-org/my-model")
        self.name = name
        self.endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
        self._parent: str | None = None  # the last commit that was seen
        self._api = HfApi(endpoint=self.endpoint, library_name="dolly_assets")

    @property
    def url(self) -> str:
        """The address of its page."""
        return f"{self.endpoint}/{self.name}"

    def held(self, *, may_overwrite: bool = False) -> str | None:
        """Return the digest that it holds; empty if none of ours, None if it does not exist.

        Args:
            may_overwrite: Whether what others have written may be replaced.

        Raises:
            HubError: The Hub refuses or cannot be reached; or the repository holds what this
                program has not written.
        """
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._explained():
            try:
                info = self._api.model_info(self.name)
            except RepositoryNotFoundError as error:
                if _status(error) == _UNAUTHORIZED:
                    raise
                return None
            self._parent, title = self._head()
        if title.startswith(_TITLE):
            return title.rpartition(" ")[2]
        files = {each.rfilename for each in info.siblings or []}
        if may_overwrite or files <= _CREATED:
            return ""
        raise HubError(
            f"{self.url} was not written by dolly push, or was changed since: its last commit is "
            f"{flat(title, 100)!r}: name another repository, or replace what is there with "
            "--overwrite"
        )

    def write(self, folder: Path, *, title: str, is_new: bool, is_public: bool) -> None:
        """Make the repository hold a folder and nothing else, in one commit.

        Args:
            folder: What it holds afterwards.
            title: What it is, with its digest at the end; `held` returns that.
            is_new: Whether to create it.
            is_public: Whether everyone may read it, if it is created.

        Raises:
            HubError: The Hub refuses or cannot be reached, or others changed it meanwhile.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.utils import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        found = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        files = {file.relative_to(folder).as_posix(): file for file in found}
        with self._explained():
            if is_new:
                self._api.create_repo(self.name, private=not is_public)
                self._parent, _ = self._head()
            gone = {*self._api.list_repo_files(self.name)} - _CREATED - files.keys()
            self._api.create_commit(
                self.name,
                [
                    *(CommitOperationDelete(path) for path in sorted(gone)),
                    *(CommitOperationAdd(path, file) for path, file in files.items()),
                ],
                commit_message=f"{_TITLE}{title}",
                parent_commit=self._parent,
            )

    def _head(self) -> tuple[str | None, str]:
        """Return id and title of the last commit."""
        commits = self._api.list_repo_commits(self.name)
        return (commits[0].commit_id, commits[0].title) if commits else (None, "")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise the client's errors as one sentence without a token."""
        from huggingface_hub.errors import (
            HfHubHTTPError,
            LocalTokenNotFoundError,
            OfflineModeIsEnabled,
        )

        try:
            yield
        except HfHubHTTPError as error:
            raise HubError(f"{self.url}: {_meaning(error)}") from None
        except LocalTokenNotFoundError:
            raise HubError(f"{self.url}: {_MEANINGS[_UNAUTHORIZED]}") from None
        except OfflineModeIsEnabled:
            raise HubError(
                f"{self.url}: HF_HUB_OFFLINE is set, so nothing is sent: unset it"
            ) from None
        except Exception as error:  # noqa: BLE001 of whatever HTTP library the client uses
            if isinstance(error, ValueError):  # of the card's metadata
                raise HubError(f"{self.url}: {_safe(error)}") from None
            raise HubError(
                f"{self.url} cannot be reached ({_safe(error)}): check the network and HF_ENDPOINT"
            ) from None


def _status(error: Exception) -> int:
    response = getattr(error, "response", None)
    return int(getattr(response, "status_code", 0))


def _meaning(error: Exception) -> str:
    status = _status(error)
    return _MEANINGS.get(status, f"the Hub answered {status or 'otherwise'}: {_safe(error)}")


def _safe(error: Exception) -> str:
    """Return the client's text on one line, without tokens."""
    text = one_line(error, 300)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := os.environ.get(name):
            text = text.replace(token, "…")
    return without_secrets(text)
