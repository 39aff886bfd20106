"""What is kept in DOLLY_HOME is its owner's alone, unless the user has arranged something else."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dolly_assets_tests.in_process import dolly

FOLDERS = ("cache", "dagster", "scratch", "store")


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return {
        "DOLLY_HOME": str(tmp_path / "new" / "home"),
        "DOLLY_STORE": "",
        "DOLLY_DEFS": "",
        "DAGSTER_HOME": "",
    }


def modes(home: Path) -> dict[str, str]:
    return {
        str(folder.relative_to(home)): oct(folder.stat().st_mode & 0o777)
        for folder in (home, *home.iterdir())
        if folder.is_dir()
    }


@pytest.mark.parametrize("command", ["status", "datasets list", "doctor"])
def test_a_new_home_can_be_entered_by_its_owner_only(
    variables: dict[str, str], command: str
) -> None:
    home = Path(variables["DOLLY_HOME"])
    dolly(variables, *command.split())
    assert modes(home) == {".": "0o700", **dict.fromkeys(FOLDERS, "0o700")}
    assert oct(home.parent.stat().st_mode & 0o777) == "0o755"


def test_the_folders_of_a_home_that_others_can_enter_are_closed_to_them(
    variables: dict[str, str],
) -> None:
    home = Path(variables["DOLLY_HOME"])
    (home / "store").mkdir(parents=True)
    dolly(variables, "status")
    assert modes(home) == {
        ".": "0o755",
        "store": "0o755",
        **dict.fromkeys(("cache", "dagster", "scratch"), "0o700"),
    }
    doctor = dolly(variables, "doctor").output
    assert "warning  permissions: every user of this machine can read" in doctor
    assert f"in {home} (store): chmod 700 {home};" in doctor
    in_a_pod = {**variables, "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    assert f"ok       permissions: {home} is in a pod" in dolly(in_a_pod, "doctor").output
    home.chmod(0o700)
    assert "ok       permissions: no other user can enter" in dolly(variables, "doctor").output


def test_a_store_that_the_user_names_can_be_shared(
    variables: dict[str, str], tmp_path: Path
) -> None:
    dolly({**variables, "DOLLY_STORE": str(tmp_path / "shared")}, "status")
    assert oct((tmp_path / "shared").stat().st_mode & 0o777) == "0o755"
    assert not (Path(variables["DOLLY_HOME"]) / "store").exists()
