"""`dolly playground` refuses what it cannot do before it starts a server."""

import socket
from pathlib import Path

import pytest

from dolly_assets.playground import server
from dolly_assets_tests.in_process import new_variables, refusal


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return new_variables(tmp_path)


def test_another_address_wants_a_login(variables: dict[str, str]) -> None:
    message = refusal(variables, "playground", "--host", "0.0.0.0")
    assert "--host 0.0.0.0 lets everyone" in message
    assert "--behind-login" in message


def test_missing_packages_are_named(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "streamlit", None)
    message = refusal(variables, "playground")
    assert "pip install 'dolly_assets[playground]'" in message


class TestInstalled:
    """What is checked once the packages are there."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("streamlit")
        server.check_installed()

    def test_a_port_in_use_is_named(self, variables: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            message = refusal(variables, "playground", "--port", port)
        assert f"cannot listen on 127.0.0.1:{port}" in message

    def test_the_name_of_another_dataset_is_refused(self, variables: dict[str, str]) -> None:
        message = refusal(variables, "playground", "--port", free(), "--preferences", "demo")
        assert "dataset 'demo' is already builtin:demo" in message

    def test_a_password_in_the_servers_address_is_refused(self, variables: dict[str, str]) -> None:
        url = "http://me:secret@127.0.0.1:1/v1"
        message = refusal(variables, "playground", "--port", free(), "--server", url)
        assert "--server http://127.0.0.1:1/v1 was given with a user name or password" in message

    def test_a_token_file_that_is_missing_is_named(
        self, variables: dict[str, str], tmp_path: Path
    ) -> None:
        file = str(tmp_path / "none")
        options = ("--server", "http://127.0.0.1:1/v1", "--token-file", file)
        message = refusal(variables, "playground", "--port", free(), *options)
        assert f"--token-file {file}: cannot be read" in message


def free() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])
