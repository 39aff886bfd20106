"""The playground in Chromium: a blind comparison on real models, and answers that want to escape.

Page and server of the models are real; hostile answers come from a stand-in that speaks HTTP.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from dolly_assets_tests.cli.test_playground import free
from dolly_assets_tests.home import Home
from dolly_assets_tests.playground import hostile
from dolly_assets_tests.ui.browser import chromium
from dolly_assets_tests.waiting import wait_until

pytest.importorskip("streamlit")
pytestmark = [pytest.mark.ui, pytest.mark.timeout(1200)]
PATIENCE_MS = 240_000  # a model is loaded when it is first asked
PHONE = {"width": 390, "height": 844}
COMPARED = "?model=tiny/animals/1&compare=tiny/animals/2&blind=1"


@contextlib.contextmanager
def playground(home: Home, *options: str) -> Iterator[str]:
    """Starts the page, yields its address, and ends it with the server that it started."""
    port = free()
    url = f"http://127.0.0.1:{port}/"
    with (home.path / "playground.log").open("w") as log:
        process = home.start("playground", "--port", port, *options, stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or is_up(url), 240)
            assert process.poll() is None, (home.path / "playground.log").read_text()
            yield url
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_up(url: str) -> bool:
    try:
        with urlopen(f"{url}_stcore/health", timeout=10):
            return True
    except OSError:
        return False


class Tab:
    """A tab, and what happens in it: the hosts that it asks, and the console's errors."""

    def __init__(self, page: Page, pictures: Path) -> None:
        self.page, self._pictures = page, pictures
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).netloc))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))

    def ask(self, message: str) -> None:
        field = self.page.get_by_test_id("stChatInputTextArea")
        field.fill(message)
        field.press("Enter")

    def sees(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_text(text).locator("visible=true").first).to_be_visible()

    def picture(self, name: str) -> None:
        self._pictures.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._pictures / f"playground_{name}.png")


@pytest.fixture
def tab(pictures: Path) -> Iterator[Tab]:
    assert chromium(), "these tests drive Chromium: install it (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        program = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield Tab(program.new_page(reduced_motion="reduce"), pictures)
        program.close()


@pytest.fixture
def empty(tmp_path: Path) -> Home:
    """A home without models."""
    (tmp_path / "home" / "defs").mkdir(parents=True)
    return Home(tmp_path / "home")


def test_a_blind_vote_on_two_epochs_arrives_in_the_catalogue(trained_copy: Home, tab: Tab) -> None:
    with playground(trained_copy) as url:
        tab.page.goto(url + COMPARED)
        tab.sees("both models answer at once")
        tab.ask("Name an animal.")
        better = tab.page.get_by_role("button", name="B is better")
        expect(better).to_be_visible()
        expect(tab.page.locator(".stMarkdown").get_by_text("tiny/animals/1")).to_have_count(1)
        tab.picture("blind")
        better.click()
        tab.sees("preferred")
        expect(tab.page.locator(".stMarkdown").get_by_text("tiny/animals/1")).to_have_count(2)
        tab.ask("word " * 400)
        tab.sees(re.compile(r"the prompt has [\d,]+ tokens, and the model's context has 128"))
        tab.page.get_by_role("button", name="About the models").click()
        for text in ("Commercial use", "held-out loss", "tiny/model_checkpoint/animals/01"):
            tab.sees(text)
        tab.picture("drawer")
        tab.page.set_viewport_size(PHONE)  # pyright: ignore[reportArgumentType]
        assert tab.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        tab.page.keyboard.press("Escape")
        tab.picture("phone")
        tab.page.emulate_media(color_scheme="dark")
        tab.picture("phone_dark")
        assert tab.hosts == {urlsplit(url).netloc}
        assert not tab.errors
    assert "preferences" in trained_copy.dolly("datasets", "list")
    # A model of two epochs writes broken characters, for which quality checks look in votes too.
    checked = trained_copy.dolly("datasets", "check", "preferences", code=2)
    assert "equal_answers: 0 of 1 preferences" in checked
    assert "encoding: 1 of 1 records" in checked


def test_a_hostile_answer_loads_and_runs_nothing(empty: Home, tab: Tab) -> None:
    with hostile.served() as models, playground(empty, "--server", models) as url:
        tab.page.goto(f"{url}?model=hostile")
        tab.ask("Anything")
        tab.sees("The end of the answer")
        for written in ("<script>", "<img src=", "![picture](", "javascript:"):
            assert written in tab.page.locator(".stMarkdown").last.inner_text()
        tab.picture("hostile")
        assert tab.page.locator("main img, main iframe, main script").count() == 0
        assert tab.hosts == {urlsplit(url).netloc}
        assert not tab.errors


def test_what_goes_wrong_is_one_sentence(empty: Home, tab: Tab) -> None:
    with hostile.served() as models, playground(empty, "--server", models) as url:
        tab.page.goto(f"{url}?model=nobody/knows/1")
        tab.sees("Unknown model 'nobody/knows/1' in this page's address")
        tab.page.goto(f"{url}?model=breaks off")
        tab.ask("Anything")
        tab.sees("ended in the middle of the answer")
        tab.page.goto(f"{url}?model=equal&compare=same")
        tab.ask("Anything")
        tab.page.get_by_role("button", name="A is better").click()
        tab.sees("both answers are equal")
    assert "preferences" not in empty.dolly("datasets", "list")
