"""A folder that is written whole or not at all, by one process at a time. It knows no formats."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dolly_assets.core.errors import ExportError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes the place of another when the block has succeeded.

    It is a sibling, `.NAME.partial`, which the writing process holds a lock on. What a killed
    process left there is deleted by the next.

    Args:
        folder: What is written; it does not exist, or is empty.

    Raises:
        ExportError: It is not empty, another process writes it, or the disk is full.
    """
    folder = folder.expanduser().absolute()
    partial = folder.with_name(f".{folder.name}.partial")
    with _explained(folder):
        _check_empty(folder)
        partial.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        with _explained(folder):
            _check_is(descriptor, partial, folder)
            _check_empty(folder)
            _clear(partial)
        try:
            with _explained(folder):
                yield partial
                partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _being_written(folder) from error


def _check_is(descriptor: int, partial: Path, folder: Path) -> None:
    """Raise ExportError if another process has finished since the folder was opened."""
    if not partial.is_dir() or not os.path.samestat(os.fstat(descriptor), partial.stat()):
        raise _being_written(folder)


def _being_written(folder: Path) -> ExportError:
    return ExportError(f"{folder}: another export writes it now: wait for it, or name another one")


def _check_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder} is a file: name a folder that does not exist yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise ExportError(f"{folder} is not empty: name a folder that does not exist yet")


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the system refuses into one sentence."""
    try:
        yield
    except OSError as error:
        # numpy states how much it wrote, and not why.
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT) or " requested and " in str(error)
        why = "the disk is full" if is_full else error.strerror or str(error)
        what = (
            "free some space, or name a folder on another disk" if is_full else "name another one"
        )
        raise ExportError(
            f"cannot write {folder}: {why}; nothing was left there: {what}"
        ) from error
