"""A day in the Dagster UI: look, train, cancel, go on, let data arrive.

In the order in which people do it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dolly_assets_tests.home import Home
from dolly_assets_tests.ui.browser import Browser, browser, chromium
from dolly_assets_tests.ui.server import Server

pytestmark = [pytest.mark.ui, pytest.mark.timeout(1200)]
EPOCHS = ("03", "04")
BROKEN_TEXT = "It is â\u0080\u0099blueâ\u0080\u0099, isnÃ©t it?"


@pytest.fixture
def ui(server: Server, pictures: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    assert chromium(), "these tests drive Chromium: install it (Debian: apt-get install chromium)"
    with browser(server.url, pictures) as opened:
        yield opened
        opened.picture(request.node.name)


def test_the_graph_shows_every_family_and_what_an_asset_is(ui: Browser) -> None:
    ui.open("/asset-groups")
    for group in ("datasets", "demo", "gpt_j_6b", "pythia_12b", "tiny"):
        ui.sees(re.compile(rf"^{group}$"))
    ui.picture("graph")
    ui.open("/assets/raw_dataset?view=overview")
    for text in (
        "Instruction data as its source gives it",
        "Parquet",
        "What the task is about",
        "inbox",
    ):
        ui.sees(text)
    ui.open("/assets/tiny/model_checkpoint?view=lineage")
    for text in ("base_model", "tokenized_dataset", "champion_model"):
        ui.sees(text)


def test_a_profile_and_a_comparison_open_and_so_does_the_report(ui: Browser) -> None:
    ui.open_partition("tiny/gpu_profile", "animals", "01")
    ui.sees("peak_process_memory_bytes")
    ui.sees("[Show Markdown]").click()
    expect(ui.page.locator(".dagster-dialog img")).to_be_visible()
    ui.picture("profile")
    ui.open_partition("tiny/epoch_comparison", "animals")
    ui.sees("held-out loss")


def test_a_dataset_is_materialized(ui: Browser) -> None:
    ui.materialize("raw_dataset", ["scheduled"])
    ui.wait_for_partition(
        "raw_dataset", "scheduled", shows="exact_duplicates"
    )  # its checks follow it


def test_a_schedule_is_ticked_and_its_dataset_looked_at(ui: Browser) -> None:
    ui.tick("sources_0_5_any_any_any")
    ui.sees("partition: scheduled")
    ui.wait_for_partition("raw_dataset", "scheduled", shows="View all historical events (2)")


def test_epochs_are_launched_cancelled_and_go_on_from_where_they_were(ui: Browser) -> None:
    ui.materialize("tiny/model_checkpoint", ["animals"], EPOCHS)
    ui.open_partition("tiny/model_checkpoint", "animals", EPOCHS[0])
    ui.sees("Materializing (2)")
    ui.open_run_of("tiny/model_checkpoint", "animals", EPOCHS[0])
    ui.sees("STEP_START")
    ui.terminate()
    ui.picture("canceled")
    ui.re_execute_from_failure()
    ui.sees("RUN_SUCCESS")
    ui.open_partition("tiny/model_checkpoint", "animals", EPOCHS[-1])
    ui.sees("Materialized (5)")
    ui.sees("weights_sha256")


def test_a_file_in_the_inbox_becomes_a_partition_and_its_checks_hold_up_training(
    ui: Browser, ui_home: Home
) -> None:
    assert ui_home.inbox
    rows = [
        {"instruction": f"Name the colour of thing {number}.", "response": BROKEN_TEXT}
        for number in range(30)
    ]
    (ui_home.inbox / "damaged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (ui_home.inbox / "damaged.done").touch()
    ui.switch_on("inbox")
    ui.sees("1 run requested")
    ui.picture("inbox")
    ui.wait_for_partition("raw_dataset", "damaged", shows="stops training")
    ui.picture("damaged")
    ui.open("/assets/raw_dataset?view=checks&checkDetail=encoding")
    ui.sees(re.compile(r"30 of 30 records contain wrongly decoded text"))
    ui.materialize("tiny/tokenized_dataset", ["damaged"])
    ui.wait_for_partition("tiny/tokenized_dataset", "damaged", shows="held_out_examples")
    ui.materialize("tiny/model_checkpoint", ["damaged"], ["01"])
    ui.open_run_of("tiny/model_checkpoint", "damaged", "01")
    ui.sees("RUN_FAILURE")
    ui.sees(re.compile(r"encoding: 30 of 30 records"))
