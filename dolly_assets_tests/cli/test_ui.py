"""As the Dagster UI does: a backfill over epochs, launched over GraphQL, run by the real daemon."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dolly_assets_tests.home import Home
from dolly_assets_tests.ui.server import serving
from dolly_assets_tests.waiting import wait_until

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
BACKFILL = """
query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
}
"""
MATERIALIZED = """
query Materialized($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) {
    ... on Asset { assetMaterializations { partition runId timestamp } }
  }
}
"""


@pytest.fixture
def backfilled(trained_copy: Home) -> Iterator[Callable[..., Any]]:
    """A home whose epochs 03-04 were trained and scored by one backfill."""
    with serving(trained_copy) as server:
        ask = server.ask
        assets = [
            ["tiny", name]
            for name in ("model_checkpoint", "gpu_profile", "evaluation", "sample_responses")
        ]
        params = {
            "assetSelection": [{"path": path} for path in assets],
            "partitionNames": ["animals|03", "animals|04"],
        }
        launched = ask(LAUNCH, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        done = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "COMPLETED", "CANCELED"}

        def status() -> str:
            return ask(BACKFILL, id=launched["backfillId"])["partitionBackfillOrError"]["status"]

        wait_until(lambda: status() in done, 300)
        assert status() == "COMPLETED_SUCCESS"
        yield ask


@pytest.mark.long
def test_a_backfill_trains_in_one_run_and_scores_each_epoch(backfilled: Callable[..., Any]) -> None:
    runs = {}
    for asset in ("model_checkpoint", "gpu_profile", "evaluation", "sample_responses"):
        events = backfilled(MATERIALIZED, key={"path": ["tiny", asset]})["assetOrError"][
            "assetMaterializations"
        ]
        runs[asset] = {event["partition"]: event["runId"] for event in events}
        assert set(runs[asset]) == {f"animals|0{epoch}" for epoch in range(5)}
    trained_in = {runs["model_checkpoint"][f"animals|0{epoch}"] for epoch in (3, 4)}
    assert len(trained_in) == 1
    assert trained_in == {runs["gpu_profile"][f"animals|0{epoch}"] for epoch in (3, 4)}
    assert not trained_in & set(runs["evaluation"].values())
