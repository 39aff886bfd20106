"""A folder appears whole or not at all, and one process writes it."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from dolly_assets.core.errors import ExportError
from dolly_assets.exporting.folder import new_folder


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    with new_folder(folder) as partial:
        (partial / "a").write_text("a")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    refused = pytest.raises(ValueError, match="broken")
    with refused, new_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("a")
        raise ValueError("broken")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_deleted(tmp_path: Path) -> None:
    left = tmp_path / ".out.partial" / "old"
    left.mkdir(parents=True)
    with new_folder(tmp_path / "out") as partial:
        assert not list(partial.iterdir())


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    with pytest.raises(ExportError, match="out is not empty"), new_folder(tmp_path / "out"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="file is a file"), new_folder(tmp_path / "file"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as partial:
        (partial / "first").touch()
        refused = pytest.raises(ExportError, match="another export writes it")
        with refused, new_folder(tmp_path / "out"):
            pass
    assert (tmp_path / "out" / "first").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    full = Path("/dev/full")
    refused = pytest.raises(ExportError, match="the disk is full; nothing was left")
    with refused, new_folder(tmp_path / "out"), full.open("wb", buffering=0) as disk:
        disk.write(b"weights")
    refused = pytest.raises(ExportError, match="the disk is full")
    with refused, new_folder(tmp_path / "out"), full.open("wb", buffering=0) as disk:
        np.zeros(1 << 20).tofile(disk)
    assert not list(tmp_path.iterdir())


def test_other_refusals_of_the_system_are_explained(tmp_path: Path) -> None:
    denied = pytest.raises(ExportError, match=r"cannot write .*: Permission denied")
    with denied, new_folder(tmp_path / "out"):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
