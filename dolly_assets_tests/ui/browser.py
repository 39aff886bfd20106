"""What people do in the Dagster UI, in its own words: buttons, dialogs, switches.

It knows no dataset and no family.
"""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

WIDTH, HEIGHT = 1500, 950
PATIENCE_MS = 240_000  # what is waited for may be a run's end on a busy machine
REFRESH_MS = 30_000


def chromium() -> str | None:
    """Chromium's or Chrome's program on this machine."""
    return next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


class Browser:
    """A tab of the Dagster UI.

    Args:
        page: Playwright's tab.
        url: Where the UI is served.
        pictures: Where screenshots go.
    """

    def __init__(self, page: Page, url: str, pictures: Path) -> None:
        self.page = page
        self._url, self._pictures = url, pictures
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)

    def open(self, path: str) -> None:
        """Opens a page of the UI."""
        self.page.goto(self._url + path)

    def picture(self, name: str) -> None:
        """Keeps what is seen now."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._pictures / f"{name}.png")

    def sees(self, text: str | re.Pattern[str]) -> Locator:
        """Waits until a text is seen, and gives its place."""
        place = self.page.get_by_text(text).locator("visible=true").first
        expect(place).to_be_visible()
        return place

    def press(self, name: str | re.Pattern[str]) -> None:
        """Presses the button of that name."""
        self.page.get_by_role("button", name=name).first.click()

    def open_partition(self, asset: str, *key: str) -> None:
        """Opens an asset's partition; parts of asset and key are separated by slashes and `|`."""
        self.open(f"/assets/{asset}?view=partitions&partition={'%7C'.join(key)}")

    def wait_for_partition(
        self, asset: str, *key: str, shows: str, seconds: float = PATIENCE_MS / 1000
    ) -> None:
        """Opens an asset's partition until it shows a text: it learns of new ones when opened."""
        deadline = time.monotonic() + seconds
        while True:
            self.open_partition(asset, *key)
            place = self.page.get_by_text(shows).locator("visible=true").first
            try:
                return expect(place).to_be_visible(timeout=REFRESH_MS)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise

    def materialize(self, asset: str, *partitions: Sequence[str]) -> None:
        """Launches partitions of an asset, given by the keys to choose in each dimension."""
        self.open(f"/assets/{asset}?view=partitions")
        self.press("Materialize")
        confirm, dialog = (
            self.page.get_by_role("button", name="Confirm"),
            self.page.locator(".dagster-dialog"),
        )
        title = dialog.get_by_text("Launch runs to")
        expect(confirm.or_(title)).to_be_visible()
        if confirm.is_visible():  # what can only be made together is materialized together
            confirm.click()
        for keys in partitions:
            dialog.get_by_text("Select a partition or create one").first.click()
            for key in keys:
                choice = self.page.get_by_role("menuitem").filter(
                    has_text=re.compile(rf"^\s*{re.escape(key)}")
                )
                choice.locator("svg").click()
            title.click()  # closes the list
        self.picture(f"{asset.replace('/', '_')}_launching")
        dialog.get_by_role("button", name=re.compile("^Launch")).click()
        expect(dialog).to_be_hidden()

    def open_run_of(self, asset: str, *key: str) -> None:
        """Opens the run that is making an asset's partition."""
        self.open_partition(asset, *key)
        self.page.get_by_text("that targets this partition").locator("a").click()

    def ask_to_terminate(self) -> None:
        """Has the run whose page is open end, and does not wait for it."""
        self.press("Terminate")
        self.page.locator(".dagster-dialog").get_by_role("button", name="Terminate").click()

    def terminate(self) -> None:
        """Cancels the run whose page is open."""
        self.ask_to_terminate()
        self.press("Done")
        self.sees("Canceled")

    def re_execute_from_failure(self) -> None:
        """Does so with the run whose page is open, and opens the new one."""
        old = self.page.url
        self.page.get_by_role("button").filter(
            has=self.page.get_by_label("arrow_drop_down")
        ).last.click()
        self.page.get_by_role("menuitem").filter(has_text=re.compile("^From failure")).click()
        confirm = self.page.get_by_role("button", name="Confirm")
        expect(confirm.or_(self.page.get_by_text("Re-executions")).first).to_be_visible()
        if confirm.is_visible():  # the run was one of a backfill that has ended
            confirm.click()
        self.page.wait_for_url(lambda url: "/runs/" in url and url != old)

    def switch_on(self, sensor: str) -> None:
        """Switches a sensor on, from its page."""
        self.open(f"/locations/dolly_assets/sensors/{sensor}")
        self.page.locator("label[class*=formatSwitch]").click()

    def tick(self, schedule: str) -> None:
        """Evaluates a schedule as at a moment of its own, and launches what it asks for."""
        self.open(f"/locations/dolly_assets/schedules/{schedule}")
        self.press("Preview tick result")
        self.press("Continue")
        self.sees(re.compile(r"\d+ run request"))
        self.picture(f"{schedule}_tick")
        self.press("Launch all")
        self.page.wait_for_url(re.compile("/runs"))


@contextmanager
def browser(url: str, pictures: Path) -> Iterator[Browser]:
    """Chromium on the UI at a URL."""
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield Browser(program.new_page(viewport={"width": WIDTH, "height": HEIGHT}), url, pictures)
        program.close()
