"""Runs as the UI starts, kills and re-executes them: its GraphQL, and the processes behind it."""

import contextlib
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import psutil

from benchmarks.kubernetes_demo.bench import DATASET, Demo
from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.pipeline.runs import RANGE_END, RANGE_START

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message }
  }
}
"""
# What "Re-execute from failure" sends.
AGAIN = """
mutation Again($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message }
  }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
LOCATIONS = (
    "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
)


def launch(
    server: Any, name: str, epochs: range, tags: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Start a run of all epochs, and return its id."""
    first, last = (partition_key(DATASET, epoch) for epoch in (epochs[0], epochs[-1]))
    tag = {RANGE_START: first, RANGE_END: last, **tags}
    config = {"ops": {f"{name}__fine_tune": {"config": {"retrain": True}}}}
    trained = ([name, asset] for asset in ("model_checkpoint", "gpu_profile"))
    return materialize(server, trained, tag, config, checks=())


def materialize(
    server: Any,
    assets: Iterable[list[str]],
    tag: Mapping[str, str],
    config: Mapping[str, Any] = MappingProxyType({}),
    checks: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Start a run of assets with all their checks, or with these, and return its id."""
    [repository] = server.ask(LOCATIONS)["repositoriesOrError"]["nodes"]
    params = {
        "selector": {
            "repositoryLocationName": repository["location"]["name"],
            "repositoryName": repository["name"],
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": asset} for asset in assets],
            "assetCheckSelection": checks,
        },
        "runConfigData": dict(config),
        "executionMetadata": {"tags": [{"key": key, "value": tag[key]} for key in tag]},
    }
    answer = server.ask(LAUNCH, params=params)["launchRun"]
    return answer["run"]["runId"] if "run" in answer else sys.exit(str(answer))


def again(server: Any, run: str) -> str:
    """Re-execute a run from its failure, and return the id of the new one."""
    answer = server.ask(AGAIN, params={"parentRunId": run, "strategy": "FROM_FAILURE"})[
        "launchRunReexecution"
    ]
    return answer["run"]["runId"] if "run" in answer else sys.exit(str(answer))


def status(server: Any, run: str) -> str:
    """Return a run's status."""
    return server.ask(STATUS, id=run)["runOrError"]["status"]


def kill(bench: Demo, run: str) -> None:
    """SIGKILL to every process that works for a run, but not to its Job's pods."""
    said = " ".join(entry.message for entry in bench.here.instance.all_logs(run))
    for pid in {int(found) for found in re.findall(r"pid: (\d+)", said)}:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(signal.SIGKILL)
