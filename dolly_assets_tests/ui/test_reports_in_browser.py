"""Reports in Chromium: ours work in the sandbox, and a hostile one gets out of it nowhere."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from dolly_assets.generation.comparison import EpochRow
from dolly_assets.generation.comparison_page import page
from dolly_assets.generation.prompt import Prompt
from dolly_assets.profiling.analysis.figures import ReportContext
from dolly_assets.profiling.analysis.training_summary import Part
from dolly_assets.profiling.report.training_report import build_training_report
from dolly_assets.storage import Artifact, ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.fixtures.reports import Serve
from dolly_assets_tests.profiling.recorder import EPOCH, START, Recorder
from dolly_assets_tests.ui.browser import chromium

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]
LIVE = "live/tiny/animals/a-run"
EVIL = """<!doctype html><base href="https://evil.example/"><title>evil</title><body>
<form action="ADDRESS/graphql" method=post><input name=query value=x></form>
<img src="ADDRESS/beacon"><iframe src="ADDRESS/framed"></iframe>
<script>
const tried = {origin: origin};
for (const [name, attempt] of Object.entries({
  cookie: () => document.cookie,
  storage: () => localStorage.length,
  opened: () => window.open("ADDRESS/opened").x,
})) { try { tried[name] = String(attempt()) } catch (error) { tried[name] = error.name } }
document.forms[0].submit();
fetch("ADDRESS/").then(() => "read", () => "refused").then(result => {
  tried.fetched = result;
  const shown = {id: "tried", textContent: JSON.stringify(tried)};
  document.body.append(Object.assign(document.createElement("pre"), shown));
});
</script>"""


@pytest.fixture
def tab() -> Iterator[Page]:
    assert chromium(), "these tests drive Chromium: install it (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield program.new_page()
        program.close()


@pytest.fixture
def complaints(tab: Page) -> list[str]:
    """What the browser's console reports as errors."""
    found: list[str] = []
    tab.on("pageerror", lambda error: found.append(str(error)))

    def take(line: ConsoleMessage) -> None:
        if line.type == "error":
            found.append(line.text)

    tab.on("console", take)
    return found


@pytest.fixture
def address(store: ArtifactStore, serve: Serve) -> str:
    return serve(store.url)


def publish(store: ArtifactStore, name: str, folder: Path) -> Artifact:
    return store.publish(name, folder, kind=name.split("/")[1])


def test_a_training_report_draws_its_charts_and_leads_to_its_epochs(
    store: ArtifactStore, address: str, tab: Page, complaints: list[str], tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path)
    recorder.record(START, EPOCH, epoch=1)
    summary = recorder.report(START, EPOCH, ReportContext())
    epoch = publish(store, "tiny/gpu_profile/animals/01", tmp_path / f"out-{START}")
    link = f"../../../../{epoch.name}/{epoch.digest}/report.html"
    build_training_report("tiny on animals", [Part(1, summary, link)], tmp_path / "training")
    publish(store, "tiny/training_profile/animals", tmp_path / "training")

    tab.goto(address)
    tab.get_by_text("training_profile").click()
    expect(tab).to_have_title("tiny on animals")
    expect(tab.locator("#charts canvas").first).to_be_visible()
    assert tab.evaluate("origin") == "null"
    tab.locator(f'a[href="{link}"]').click()
    expect(tab).to_have_title("an epoch")
    expect(tab.locator("#charts canvas").first).to_be_visible()
    assert not complaints


def test_a_live_report_refreshes_itself(
    store: ArtifactStore, address: str, tab: Page, complaints: list[str], tmp_path: Path
) -> None:
    recorder, objects = Recorder(tmp_path), ObjectStore(store.url)
    recorder.record(START, EPOCH, epoch=1)

    def write(seconds: int) -> None:
        recorder.report(START, seconds, ReportContext(refresh_seconds=1))
        page = (tmp_path / f"out-{START}" / "report.html").read_bytes()
        objects.write(f"{LIVE}/report.html", page)

    write(EPOCH // 2)
    tab.goto(f"{address}/{LIVE}/report.html")
    state = tab.locator(".state")
    expect(state).to_contain_text("Running")
    before = state.inner_text()
    write(EPOCH)
    expect(state).not_to_have_text(before)
    assert not complaints


def test_a_comparison_is_sorted_searched_and_fits_a_phone(
    store: ArtifactStore, address: str, tab: Page, complaints: list[str], tmp_path: Path
) -> None:
    nothing = dict.fromkeys(("perplexity", "exact_match", "tokens_per_second", "training_seconds"))
    asked = [Prompt(instruction=text) for text in ("Name a fish.", "Name a bird.")]
    rows = [
        EpochRow(
            epoch=epoch,
            training_loss=None,
            held_out_loss=loss,
            responses={asked[0]: "word " * epoch, asked[1]: "a wren " + "so " * (3 - epoch)},
            **nothing,
        )
        for epoch, loss in enumerate((2.0, 0.5, 1.0))
    ]
    folder = tmp_path / "comparison"
    folder.mkdir()
    (folder / "comparison.html").write_text(page("tiny", rows), encoding="utf-8")
    publish(store, "tiny/epoch_comparison/animals", folder)

    tab.goto(address)
    tab.get_by_text("epoch_comparison").click()
    expect(tab.locator("figure svg")).to_have_count(2)  # loss, and length of answers
    first = tab.locator(".numbers tbody tr td").first
    tab.get_by_role("button", name="held-out loss").click()
    expect(first).to_have_text("1")
    tab.get_by_role("button", name="held-out loss").click()
    expect(first).to_have_text("0 (base model)")
    tab.get_by_role("button", name="epoch 2").click()
    expect(tab.locator("#answers tbody tr").first).to_contain_text("Name a fish.")
    tab.get_by_role("searchbox").fill("WREN")
    expect(tab.locator("#count")).to_have_text("1 of 2 prompts")
    expect(tab.locator("#answers tbody tr:visible")).to_have_count(1)
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert not complaints


def test_a_hostile_page_reaches_nothing(
    store: ArtifactStore, address: str, tab: Page, tmp_path: Path
) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "report.html").write_text(EVIL.replace("ADDRESS", address))
    artifact = publish(store, "tiny/gpu_profile/animals/01", folder)
    page = f"{address}/{artifact.name}/{artifact.digest}/report.html"
    arrived = answered(tab)
    tab.goto(page)
    tried = tab.locator("#tried").inner_text()
    for attempt in (
        '"origin":"null"',
        '"cookie":"SecurityError"',
        '"storage":"SecurityError"',
        '"opened":"TypeError"',
        '"fetched":"refused"',
    ):
        assert attempt in tried
    tab.wait_for_load_state("networkidle")
    assert arrived == [page]
    assert tab.url == page


def test_a_report_is_shown_in_no_frame(
    store: ArtifactStore, address: str, tab: Page, complaints: list[str]
) -> None:
    tab.set_content(f'<iframe src="{address}/"></iframe>')
    frame = tab.frames[-1]
    frame.wait_for_load_state()
    assert "Reports" not in frame.content()
    assert "frame-ancestors" in " ".join(complaints)


def answered(tab: Page) -> Sequence[str]:
    """Returns a list to which the address of each answer is added."""
    found: list[str] = []
    tab.on("response", lambda response: found.append(response.url))
    return found
