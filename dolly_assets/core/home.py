"""The folders in `DOLLY_HOME`, which only its owner can enter: datasets and answers are in them."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dolly_assets.core.environment import Environment

OWNER_ONLY = 0o700
OF_OTHERS = 0o005  # to list a folder, and to enter it


def prepare_home(environment: Environment) -> None:
    """Create the missing folders of a home.

    A folder that exists keeps its permissions, and so does a store in a place that the user names:
    a team may share it. A command that needs a folder which cannot be created reports this itself.
    """
    for folder in _folders(environment):
        with suppress(OSError):
            folder.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)


def open_to_others(home: Path) -> list[Path]:
    """Return the folders of a home that every user of this machine can enter."""
    if not _lets_others_in(home):
        return []
    return sorted(
        folder for folder in home.iterdir() if folder.is_dir() and _lets_others_in(folder)
    )


def _folders(environment: Environment) -> Iterator[Path]:
    yield environment.home
    if environment.store_url == str(environment.home / "store"):
        yield environment.home / "store"
    yield from (environment.cache_dir, environment.scratch_dir, environment.dagster_home)


def _lets_others_in(folder: Path) -> bool:
    return bool(folder.stat().st_mode & OF_OTHERS)
