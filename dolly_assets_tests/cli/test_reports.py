"""Where reports are served, and where the links to them lead."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dolly_assets.cli.reports import address
from dolly_assets.core.urls import REPORTS_URL
from dolly_assets.dagster_support.report_links import live_report, report_link
from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.fixtures.reports import PublishPage, Serve
from dolly_assets_tests.home import Home
from dolly_assets_tests.in_process import new_variables, refusal
from dolly_assets_tests.report_server.raw import ask

LIVE = "live/tiny/animals/a-run"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which something listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_links_lead_to_one_address_whatever_port_the_ui_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DOLLY_REPORTS_URL", raising=False)
    assert report_link("a/b") == f"{REPORTS_URL}/a/b"
    monkeypatch.setenv("DOLLY_REPORTS_URL", "https://dagster.example.com/reports/")
    assert report_link("a/b") == "https://dagster.example.com/reports/a/b"


def test_a_live_link_is_printed_as_such_only_where_it_opens(
    store: ArtifactStore, serve: Serve, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOLLY_REPORTS_URL", raising=False)
    ObjectStore(store.url).write(f"{LIVE}/report.html", b"page")

    def said(link: str) -> str:
        return live_report(link, "tiny", "animals", 2)

    link = f"{serve(store.url)}/{LIVE}/report.html"
    assert said(link) == f"live report: {link}"
    monkeypatch.setattr("dolly_assets.dagster_support.report_links.ANSWER_SECONDS", 0.1)
    for dead in (
        link.replace(LIVE, "live/tiny/animals/of-another-store"),
        f"http://127.0.0.1:{taken}/it-takes-connections-and-is-silent",
    ):
        assert said(dead) == (
            f"live report: start `dolly ui` or `dolly reports`, then open {dead}; after the epoch: "
            "dolly profile open --model tiny --dataset animals --epoch 2"
        )
    monkeypatch.setenv("DOLLY_REPORTS_URL", "https://behind-a-login.example.com")
    link = "https://behind-a-login.example.com/x"
    assert said(link) == f"live report: {link}"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3001"),
        ("0.0.0.0", "http://127.0.0.1:3001"),
        ("::", "http://[::1]:3001"),
        ("::1", "http://[::1]:3001"),
        ("box.example.com", "http://box.example.com:3001"),
    ],
)
def test_an_address_can_be_opened_in_a_browser(host: str, url: str) -> None:
    assert address(host, 3001) == url


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("reports", "--port", "PORT"), "--port"),
        (("ui", "--port", "PORT"), "--port"),
        (("ui", "--port", "FREE", "--reports-port", "PORT"), "--reports-port"),
    ],
)
def test_a_port_in_use_is_refused_with_the_option_that_chooses_another(
    taken: int, tmp_path: Path, arguments: tuple[str, ...], option: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        free = server.getsockname()[1]
    ports = {"PORT": str(taken), "FREE": str(free)}
    said = refusal(new_variables(tmp_path), *(ports.get(each, each) for each in arguments))
    assert f"cannot listen on 127.0.0.1:{taken}" in said
    assert said.endswith(f"or choose another {option}\n")


@pytest.mark.slow
def test_the_command_serves_the_store_of_its_home(
    tmp_path: Path, publish_page: PublishPage
) -> None:
    home = Home(tmp_path)
    (tmp_path / "defs").mkdir()
    publish_page(ArtifactStore(str(tmp_path / "store"), tmp_path / "c"), "tiny/gpu_profile/a/01")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = home.start("reports", "--port", str(port))
    try:
        assert process.stderr
        assert process.stderr.readline() == f"reports: http://127.0.0.1:{port}\n"
        assert "gpu_profile, epoch 01" in ask(f"http://127.0.0.1:{port}", "/").body
    finally:
        process.kill()
        process.communicate()
