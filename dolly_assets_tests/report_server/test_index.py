"""The page that lists all reports."""

import re
from collections.abc import Callable
from html import unescape

import pytest

from dolly_assets.report_server import pages
from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.profiles.live import LiveState, write_state
from dolly_assets_tests.fixtures.reports import PublishPage, Serve
from dolly_assets_tests.report_server.raw import PAGE, ask

SetLive = Callable[..., None]


@pytest.fixture
def set_live(store: ArtifactStore) -> SetLive:
    objects = ObjectStore(store.url)

    def set_live(run_id: str, *, family: str = "tiny", epoch: int = 2, ended: bool = False) -> None:
        state = LiveState(
            family=family,
            dataset="animals",
            run_id=run_id,
            training="",
            tokenized_dataset="",
            epoch=epoch,
            started_at=0,
            refreshed_at=0,
            ended=ended,
            made_by={},
        )
        write_state(objects, state)
        objects.write(f"{state.folder}/report.html", PAGE.encode())

    return set_live


def listed(index: str) -> list[str]:
    """Returns headings and links in the order in which they are shown."""
    found = re.findall(r"<h2>(.*?)</h2>|<a [^>]*>(.*?)</a>", index)
    return [unescape(heading or link) for heading, link in found]


def test_all_reports_are_listed_and_every_link_opens(
    store: ArtifactStore, publish_page: PublishPage, serve: Serve, set_live: SetLive
) -> None:
    for name in (
        "tiny/gpu_profile/animals/02",
        "tiny/gpu_profile/animals/01",
        "tiny/interrupted_profile/animals/02",
        "tiny/training_profile/animals",
        "demo/gpu_profile/demo/01",
    ):
        publish_page(store, name)
    publish_page(store, "tiny/epoch_comparison/animals", "comparison.html")
    publish_page(store, "tiny/model_checkpoint/animals/01")
    newest = publish_page(store, "tiny/gpu_profile/animals/01", page="again")
    set_live("a-run")
    set_live("an-old-run", ended=True)
    ObjectStore(store.url).write("live/tiny/animals/damaged/state.json", b"{")
    ObjectStore(store.url).write("manifests/tiny/gpu_profile/x/01/no-record.json", b"{")
    address = serve(store.url)
    index = ask(address, "/").body
    assert listed(index) == [
        "Live",
        "tiny on animals, epoch 02",
        "demo on demo",
        "gpu_profile, epoch 01",
        "tiny on animals",
        "epoch_comparison",
        "training_profile",
        "gpu_profile, epoch 01",
        "gpu_profile, epoch 02",
        "interrupted_profile, epoch 02",
    ]
    assert newest.digest in index
    links = re.findall('href="([^"]*)"', index)
    assert len(links) == 7
    assert {ask(address, f"/{link}").status for link in links} == {200}


def test_what_others_have_written_is_text(
    store: ArtifactStore, publish_page: PublishPage, serve: Serve, set_live: SetLive
) -> None:
    set_live("a-run", family="<script>alert(1)</script>")
    publish_page(store, 'javascript:alert(1)/gpu_profile/"><img src=x onerror=y>/01')
    index = ask(serve(store.url), "/").body
    assert "<script" not in index
    assert "<img" not in index
    assert 'href="javascript%3Aalert%281%29/gpu_profile/%22%3E%3Cimg' in index
    assert "<script>alert(1)</script> on animals, epoch 02" in listed(index)


def test_an_empty_store_has_an_index(store: ArtifactStore, serve: Serve) -> None:
    assert "No reports yet" in ask(serve(store.url), "/").body


def test_the_store_is_not_listed_for_every_reader(
    store: ArtifactStore,
    publish_page: PublishPage,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, other = serve(store.url), serve(store.url)
    before = ask(address, "/").body
    publish_page(store, "tiny/gpu_profile/animals/01")
    assert ask(address, "/").body == before
    monkeypatch.setattr(pages, "INDEX_SECONDS", 0)
    for shown in ("gpu_profile", "training_profile"):
        publish_page(store, f"tiny/{shown}/animals")
        assert shown in ask(other, "/").body
