"""Clients that need not be trusted: other hosts' names, silence, haste, many at once."""

import socket
from contextlib import ExitStack

import pytest

from dolly_assets.report_server import server as limits
from dolly_assets.storage import ArtifactStore
from dolly_assets_tests.fixtures.reports import PublishPage, Serve
from dolly_assets_tests.report_server.raw import PAGE, answer, ask, connect
from dolly_assets_tests.waiting import wait_until

pytestmark = pytest.mark.slow  # waits for clients that time out

PUBLIC = "https://Dagster.example.com/reports"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1:3001", 200),
        ("[::1]:3001", 200),
        ("dagster.example.com", 200),
        ("DAGSTER.example.com:443", 200),
        ("evil.example.com", 421),
        ("evil.dagster.example.com", 421),
        ("dagster.example.com.evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example@localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("10.0.0.1", 421),
        (" ", 421),
        ("[::1", 421),
        ("localhost\r\nHost: localhost", 421),
    ],
)
def test_only_a_name_that_the_server_is_known_by_is_answered(
    store: ArtifactStore, serve: Serve, host: str, status: int
) -> None:
    assert ask(serve(store.url, PUBLIC), "/reports/", host).status == status


def test_without_an_address_of_its_own_it_answers_on_this_machine_only(
    store: ArtifactStore, serve: Serve
) -> None:
    address = serve(store.url)
    assert ask(address, "/", " ").status == 421
    assert ask(address, "/", "evil.example.com").status == 421
    with connect(address) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert answer(connection).status == 421


def test_reports_are_served_below_the_path_of_their_address(
    store: ArtifactStore, publish_page: PublishPage, serve: Serve
) -> None:
    artifact = publish_page(store, "tiny/gpu_profile/animals/01")
    address = serve(store.url, PUBLIC)
    page = f"{artifact.name}/{artifact.digest}/report.html"
    assert ask(address, f"/reports/{page}").body == PAGE
    assert f'href="{page}"' in ask(address, "/reports/").body
    assert [ask(address, path).status for path in (f"/{page}", "/", "/reports")] == [404] * 3


def test_a_client_that_sends_nothing_or_byte_by_byte_is_cut_off(
    store: ArtifactStore, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTION_SECONDS", 0.3)
    with connect(serve(store.url)) as silent:
        assert silent.recv(1) == b""
    monkeypatch.setattr(limits, "CONNECTION_SECONDS", 60.0)
    monkeypatch.setattr(limits._Handler, "timeout", 0.2)
    with connect(serve(store.url)) as silent:
        silent.sendall(b"GET / HT")
        assert silent.recv(1) == b""


def test_connections_are_bounded_and_their_places_are_given_back(
    store: ArtifactStore, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_CONNECTIONS", 3)
    address = serve(store.url)

    def status() -> int:
        with connect(address) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {address[7:]}\r\n\r\n".encode())
            return answer(connection).status

    for _ in range(2):
        with ExitStack() as open_ones:
            for _ in range(3):
                open_ones.enter_context(connect(address))
            wait_until(lambda: _is_busy(address), 10)
        wait_until(lambda: not _is_busy(address), 10)
    assert status() == 200


def _is_busy(address: str) -> bool:
    with connect(address) as connection:
        connection.settimeout(0.5)
        try:
            return connection.recv(12) == b"HTTP/1.0 503"
        except TimeoutError:
            return False


def test_a_client_that_hangs_up_prints_nothing(
    store: ArtifactStore,
    publish_page: PublishPage,
    serve: Serve,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MOST_CONNECTIONS", 1)  # the next one is taken once this has ended
    artifact = publish_page(store, "tiny/gpu_profile/animals/01", page="x" * (16 << 20))
    address = serve(store.url)
    request = f"GET /{artifact.name}/{artifact.digest}/report.html HTTP/1.1\r\nHost: {address[7:]}"
    with connect(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(f"{request}\r\n\r\n".encode())
        assert connection.recv(1)  # the answer is on its way: closing resets the connection
    wait_until(lambda: not _is_busy(address), 10)
    assert capfd.readouterr().err == ""
