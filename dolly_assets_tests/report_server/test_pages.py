"""Pages that this platform writes are served, in a sandbox, and nothing else is."""

from pathlib import Path

import pytest

from dolly_assets.dagster_support.events import materialization_of
from dolly_assets.report_server import pages
from dolly_assets.storage import Artifact, ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.fixtures.reports import PublishPage, Serve
from dolly_assets_tests.report_server.raw import PAGE, ask

pytestmark = pytest.mark.slow  # asks a server for hundreds of pages

NAME = "tiny/gpu_profile/animals/01"
LIVE = "live/tiny/animals/a-run"


@pytest.fixture
def artifact(store: ArtifactStore, publish_page: PublishPage) -> Artifact:
    return publish_page(store, NAME)


@pytest.fixture
def address(artifact: Artifact, store: ArtifactStore, serve: Serve) -> str:
    ObjectStore(store.url).write(f"{LIVE}/report.html", PAGE.encode())
    return serve(store.url)


def test_the_link_in_the_metadata_opens_the_report(
    shared_url: str,
    publish_page: PublishPage,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifact = publish_page(ArtifactStore(shared_url, tmp_path / "cache"), NAME)
    address = serve(shared_url)
    monkeypatch.setenv("DOLLY_REPORTS_URL", address)
    link = str(materialization_of(artifact).metadata["report"].value)
    assert link == f"{address}/{NAME}/{artifact.digest}/report.html"
    found = ask(address, link.removeprefix(address))
    assert (found.status, found.body) == (200, PAGE)
    assert found.headers["Content-Type"] == "text/html; charset=utf-8"


def test_a_live_report_is_served(address: str) -> None:
    found = ask(address, f"/{LIVE}/report.html")
    assert (found.status, found.body) == (200, PAGE)
    assert found.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("tiny/gpu_profile/animals/01", "report.html", "gpu_profile"),
        ("tiny/cut_profile/animals/01", "report.html", "cut_profile"),
        ("tiny/interrupted_profile/animals/01", "report.html", "interrupted_profile"),
        ("tiny/training_profile/animals", "report.html", "training_profile"),
        ("tiny/epoch_comparison/my-data.v2", "comparison.html", "epoch_comparison"),
    ],
)
def test_each_kind_that_has_a_page_is_served(
    store: ArtifactStore, publish_page: PublishPage, serve: Serve, name: str, file: str, kind: str
) -> None:
    artifact = publish_page(store, name, file, kind)
    assert ask(serve(store.url), f"/{name}/{artifact.digest}/{file}").status == 200


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("tiny/gpu_profile/animals/01", "evil.html", "gpu_profile"),
        ("tiny/gpu_profile/animals/01", "comparison.html", "gpu_profile"),
        ("tiny/gpu_profile/animals/01", "report.html", "model_checkpoint"),
        ("tiny/gpu_profile/animals/01", "report.html", "anything"),
        ("tiny/model_checkpoint/animals/01", "report.html", "model_checkpoint"),
        ("tiny/model_checkpoint/animals/01", "report.html", "gpu_profile"),
        ("tiny/anything/animals/01", "report.html", "gpu_profile"),
        ("raw_dataset/animals", "report.html", "raw_dataset"),
    ],
)
def test_a_page_that_the_platform_does_not_write_is_not_served(
    store: ArtifactStore, publish_page: PublishPage, serve: Serve, name: str, file: str, kind: str
) -> None:
    artifact = publish_page(store, name, file, kind)
    address = serve(store.url)
    assert ask(address, f"/{name}/{artifact.digest}/{file}").status == 404
    assert file not in ask(address, "/").body


def test_a_page_that_would_fill_the_memory_is_not_served(
    address: str, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = (f"/{NAME}/{artifact.digest}/report.html", f"/{LIVE}/report.html")
    monkeypatch.setattr(pages, "MOST_PAGE_BYTES", len(PAGE.encode()))
    assert [ask(address, target).status for target in targets] == [200, 200]
    monkeypatch.setattr(pages, "MOST_PAGE_BYTES", len(PAGE.encode()) - 1)
    assert [ask(address, target).status for target in targets] == [404, 404]


D = "0" * 64
OTHER_PATHS = (
    "..",
    "../../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "%252e%252e/etc/passwd",
    "//etc/passwd",
    "//evil.example.com/report.html",
    "http://evil.example.com/report.html",
    "http://[::1",
    "[::1",
    "live/tiny/../../MANIFEST",
    "live/tiny/animals/%2e%2e/report.html",
    "live/tiny/animals/../report.html",
    "live/tiny/animals/a-run/",
    "live/tiny/animals/a-run/state.json",
    "live/tiny/animals/a-run/report.html/",
    "live/tiny/animals/a-run/report.html%00",
    "live/tiny/animals/a-run/report%2ehtml",
    "live/tiny/animals/a-run/report.html\x00",
    "live/tiny/animals/a-run/\x7freport.html",
    b"live/tiny/animals/\xff\xfe/report.html",
    "live/tiny/ａnimals/a-run/report.html",
    "MANIFEST",
    "DIGEST/other.html",
    "DIGEST/summary.json",
    "DIGEST/",
    "DIGEST/../DIGEST/report.html",
    f"{NAME}/{D}/report.html",
    f"{NAME}/{D[1:]}/report.html",
    f"{NAME}/report.html",
    f"./{NAME}/{D}/report.html",
    f"{NAME}/..;/{D}/report.html",
    f"tiny/gpu_profile/animals/x/{D}/report.html",
    "blobs/sha256/",
    "locks/",
    "a" * 10_000,
)


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_nothing_else_in_the_store_or_on_the_machine_can_be_read(
    address: str, artifact: Artifact, path: str | bytes
) -> None:
    if isinstance(path, str):
        path = path.replace("MANIFEST", artifact.manifest.key)
        path = path.replace("DIGEST", f"{NAME}/{artifact.digest}").encode()
    answer = ask(address, b"/" + path)
    assert (answer.status, answer.body) == (404, "no such report, or it cannot be read")
    if not path.startswith(b"/"):  # a request's target may also be a whole URL
        assert ask(address, path).status in (400, 404)


def test_a_page_can_reach_neither_the_network_nor_other_pages(
    address: str, artifact: Artifact
) -> None:
    for target in (f"/{NAME}/{artifact.digest}/report.html", f"/{LIVE}/report.html"):
        headers = ask(address, target).headers
        assert policy(headers["Content-Security-Policy"]) == {
            "default-src": "'none'",
            "style-src": "'unsafe-inline'",
            "script-src": "'unsafe-inline' 'unsafe-eval'",
            "form-action": "'none'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
            "sandbox": "allow-scripts",
        }
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("method", "target", "host", "status"),
    [
        ("GET", "/", "", 200),
        ("GET", "/nothing", "", 404),
        ("GET", "/", "evil.example.com", 421),
        ("POST", "/", "", 501),
        ("PUT", f"/{LIVE}/report.html", "", 501),
        ("TRACE", "/", "", 501),
        ("GET", "/ /", "", 400),
        ("GET", "/" + "a" * 70_000, "", 414),
    ],
)
def test_every_other_answer_may_run_no_script_at_all(
    address: str, method: str, target: str, host: str, status: int
) -> None:
    answer = ask(address, target, host, method)
    assert answer.status == status
    rules = policy(answer.headers["Content-Security-Policy"])
    assert "script-src" not in rules
    assert (rules["default-src"], rules["sandbox"]) == ("'none'", "")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def policy(header: str) -> dict[str, str]:
    """Returns the directives of a Content-Security-Policy."""
    parts = (directive.strip().partition(" ") for directive in header.split(";"))
    return {name: value for name, _, value in parts}
