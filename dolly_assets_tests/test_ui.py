"""The Dagster UI's way: a backfill over epochs, launched over GraphQL and carried out by the real daemon."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from dolly_assets_tests.conftest import Home

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
BACKFILL = (
    "query Backfill($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
)
MATERIALIZED = """
query Materialized($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) { ... on Asset { assetMaterializations { partition runId timestamp } } }
}
"""


@contextlib.contextmanager
def ui(home: Home) -> Iterator[Callable[..., Any]]:
    """`dolly ui` on a free port; gives a function that asks its GraphQL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (home.path / "ui.log").open("w")
    process = home.start("ui", "--port", str(port), stdout=log, stderr=log)

    def ask(query: str, **variables: Any) -> Any:
        answer = requests.post(
            f"http://127.0.0.1:{port}/graphql", json={"query": query, "variables": variables}, timeout=60
        )
        answer.raise_for_status()
        assert "errors" not in answer.json(), answer.json()
        return answer.json()["data"]

    try:
        _until(lambda: _answers(ask), 120)
        yield ask
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its servers too, whatever they are doing
        process.wait()
        log.close()


@pytest.fixture
def backfilled(trained_copy: Home) -> Iterator[Callable[..., Any]]:
    """A home whose epochs 03-04 were trained and scored by one backfill."""
    with ui(trained_copy) as ask:
        assets = [["tiny", name] for name in ("model_checkpoint", "gpu_profile", "evaluation", "sample_responses")]
        params = {
            "assetSelection": [{"path": path} for path in assets],
            "partitionNames": ["animals|03", "animals|04"],
        }
        launched = ask(LAUNCH, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        done = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "COMPLETED", "CANCELED"}

        def status() -> str:
            return ask(BACKFILL, id=launched["backfillId"])["partitionBackfillOrError"]["status"]

        _until(lambda: status() in done, 300)
        assert status() == "COMPLETED_SUCCESS"
        yield ask


def test_a_backfill_trains_in_one_run_and_scores_each_epoch(backfilled: Callable[..., Any]) -> None:
    runs = {}
    for asset in ("model_checkpoint", "gpu_profile", "evaluation", "sample_responses"):
        events = backfilled(MATERIALIZED, key={"path": ["tiny", asset]})["assetOrError"]["assetMaterializations"]
        runs[asset] = {event["partition"]: event["runId"] for event in events}
        assert set(runs[asset]) == {f"animals|0{epoch}" for epoch in range(5)}
    trained_in = {runs["model_checkpoint"][f"animals|0{epoch}"] for epoch in (3, 4)}
    assert len(trained_in) == 1
    assert trained_in == {runs["gpu_profile"][f"animals|0{epoch}"] for epoch in (3, 4)}
    assert not trained_in & set(runs["evaluation"].values())


def _answers(ask: Callable[..., Any]) -> bool:
    try:
        return bool(
            ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")["repositoriesOrError"]
        )
    except requests.ConnectionError:
        return False


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.5)
