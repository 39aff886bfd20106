"""Train the family `demo` in pods, and compare the weights with those of the local launcher.

    python benchmarks/kubernetes_demo.py [--records 2400] [--epochs 2]

The cluster is the tests' stand-in: its pods are processes of this machine. Model, recipe and tasks
are the demo's, with `--records` of its examples. Each training is one Dagster run: on 1 and on 2
ranks here; in 1 and in 2 pods of one rank with the same number of CPU threads; in 2 pods of which
one is lost in the second epoch; and one that is started in the UI, whose process gets SIGKILL in
the second epoch, and that is re-executed from failure there. Exit code 1 if any weights differ, an
epoch is trained twice, or a GPU stays booked.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from dolly_assets.core.environment import PROJECT, Environment
from dolly_assets.core.names import epoch_key
from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.datasets import demo
from dolly_assets.pipeline.runs import RANGE_END, RANGE_START
from dolly_assets.pipeline.session import Session
from dolly_assets_tests.home import Home
from dolly_assets_tests.kubernetes.cluster import NAMESPACE, Cluster
from dolly_assets_tests.ui.server import serving
from dolly_assets_tests.waiting import wait_until

DATASET = "some_demo"
CORES = 2
SPEED = 20
LIMIT_SECONDS = 600
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
# What "Re-execute from failure" sends.
AGAIN = """
mutation Again($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
LOCATIONS = (
    "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
)


class Demo:
    """A home with the families `one` and `two`, and `one_pod` and `two_pods` for the cluster."""

    def __init__(self, folder: Path, cluster: Cluster, records: int, epochs: int) -> None:
        self.cluster, self.epochs = cluster, range(1, epochs + 1)
        self.home = Home(folder / "home")
        attributes = yaml.safe_load(
            (PROJECT / "dolly_assets" / "defs" / "demo" / "defs.yaml").read_text()
        )
        for name, compute in {
            "one": {"cpu_ranks": 1, "cpus": CORES},
            "two": {"cpu_ranks": 2, "cpus": CORES},
            "one_pod": {"cpu_ranks": 1, "cpus": CORES},
            "two_pods": {"cpu_ranks": 1, "cpus": CORES // 2, "nodes": 2},
        }.items():
            attributes["attributes"].update(compute={**compute, "memory_gib": 4}, automation={})
            attributes["attributes"]["recipe"]["epochs"] = epochs
            (self.home.path / "defs" / name).mkdir(parents=True)
            (self.home.path / "defs" / name / "defs.yaml").write_text(yaml.safe_dump(attributes))
        settings = folder / "kubernetes.yaml"
        settings.write_text(yaml.safe_dump({"namespace": NAMESPACE, "image": "worker:1"}))
        os.environ.update(self.home.variables, KUBECONFIG=str(cluster.kubeconfig))
        self.here = Session(Environment.read())
        self.in_pods = Session(
            Environment.read({**self.home.variables, "DOLLY_KUBERNETES": str(settings)})
        )
        self.kubernetes_file = settings
        rows = folder / "demo.jsonl"
        rows.write_text(
            "".join(json.dumps(row) + "\n" for row in demo.generate(examples=records).to_pylist())
        )
        self.home.dolly("datasets", "add", DATASET, str(rows), "--answers", "exact")
        self.here.register_datasets([DATASET])
        self.here.materialize([["raw_dataset"]], DATASET)
        for name in ("one", "two", "one_pod", "two_pods"):
            self.here.materialize([[name, "base_model"]])
            self.here.materialize([[name, "tokenized_dataset"]], DATASET)
            self.here.materialize([[name, "training_plan"]], DATASET)

    def train(self, name: str, session: Session) -> float:
        """Trains all epochs in one run; seconds."""
        began = time.monotonic()
        keys = [[name, asset] for asset in ("model_checkpoint", "gpu_profile")]
        first, last = (partition_key(DATASET, epoch) for epoch in (self.epochs[0], self.epochs[-1]))
        session.materialize(
            keys, first, last, {f"{name}__fine_tune": {"config": {"retrain": True}}}
        )
        return time.monotonic() - began

    def count(self, name: str, epoch: int) -> int:
        """How often an epoch has been published."""
        return len(self.here.store.history(f"{name}/model_checkpoint/{DATASET}/{epoch_key(epoch)}"))

    def weights(self, name: str) -> list[str]:
        """Digests of the newest weights of each epoch."""
        found = [
            self.here.store.latest(f"{name}/model_checkpoint/{DATASET}/{epoch_key(each)}")
            for each in self.epochs
        ]
        return [
            str(artifact.manifest.attributes["weights_sha256"]) for artifact in found if artifact
        ]

    def in_epoch_2(self, name: str) -> Callable[[], bool]:
        """Whether the training that begins now is in its second epoch."""
        before = self.count(name, 1)
        return lambda: self.count(name, 1) > before


def main() -> int:
    """Run every stage and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=2400)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Cluster(Path(folder) / "cluster", speed=SPEED) as cluster,
    ):
        cluster.apply(
            {
                "kind": "Service",
                "metadata": {"name": "dolly-workers"},
                "spec": {"clusterIP": "None"},
            }
        )
        bench = Demo(Path(folder), cluster, arguments.records, arguments.epochs)
        rows = []
        for local, pods in (("one", "one_pod"), ("two", "two_pods")):
            rows.append((f"{local}, here", bench.train(local, bench.here), True))
            rows.append(
                compared(bench, pods, local, lambda name: bench.train(name, bench.in_pods), pods)
            )
        rows.append(
            compared(
                bench,
                "two_pods",
                "two",
                lambda name: with_a_lost_node(bench, name),
                "a pod of two lost",
            )
        )
        rows.append(
            compared(
                bench,
                "one_pod",
                "one",
                lambda name: killed_and_run_again(bench, name),
                "run killed in the UI",
            )
        )
    print("| training | seconds | |\n| --- | ---: | --- |")
    for title, seconds, is_right in rows:
        print(f"| {title} | {seconds:.0f} | {'' if is_right else 'WRONG'} |")
    return int(not all(is_right for *_, is_right in rows))


def compared(
    bench: Demo, name: str, local: str, train: Callable[[str], float], title: str
) -> tuple[str, float, bool]:
    """Trains in pods, and compares with what was trained here."""
    before = [bench.count(name, epoch) for epoch in bench.epochs]
    seconds = train(name)
    published = [
        bench.count(name, epoch) - count for epoch, count in zip(bench.epochs, before, strict=True)
    ]
    equal = bench.weights(name) == bench.weights(local)
    booked, digest = bench.cluster.gpus_booked(), bench.weights(name)[-1][:16]
    print(
        f"{title}: weights {'equal' if equal else 'DIFFER'} (epoch {bench.epochs[-1]}: {digest}), "
        f"each epoch published {published} times, {booked} GPUs booked, {seconds:.0f} s",
        flush=True,
    )
    return title, seconds, equal and published == [1] * len(bench.epochs) and not booked


def with_a_lost_node(bench: Demo, name: str) -> float:
    """Loses the second pod in the second epoch."""
    is_in_epoch_2 = bench.in_epoch_2(name)

    def lose() -> None:
        wait_until(is_in_epoch_2, LIMIT_SECONDS)
        time.sleep(2)  # some steps
        pod = max(bench.cluster.running(), key=lambda pod: pod["spec"]["hostname"])
        print(f"lost: {pod['metadata']['name']}", flush=True)
        bench.cluster.lose(pod)

    losing = threading.Thread(target=lose)
    losing.start()
    seconds = bench.train(name, bench.in_pods)
    losing.join()
    return seconds


def killed_and_run_again(bench: Demo, name: str) -> float:
    """Kill a run of the UI in the second epoch and re-execute it: the Job is the same."""
    began = time.monotonic()
    is_in_epoch_2 = bench.in_epoch_2(name)
    os.environ["DOLLY_KUBERNETES"] = str(bench.kubernetes_file)
    with serving(bench.home) as server:
        run = _launch(server, name, bench.epochs)
        wait_until(is_in_epoch_2, LIMIT_SECONDS)
        jobs = {job["metadata"]["uid"] for job in bench.cluster.jobs()}
        _kill(bench, run)
        wait_until(lambda: _status(server, run) == "FAILURE", LIMIT_SECONDS)
        answer = server.ask(AGAIN, params={"parentRunId": run, "strategy": "FROM_FAILURE"})[
            "launchRunReexecution"
        ]
        again = answer["run"]["runId"] if "run" in answer else sys.exit(str(answer))
        print(f"killed: {run}, re-executed: {again}", flush=True)
        wait_until(
            lambda: _status(server, again) in ("SUCCESS", "FAILURE", "CANCELED"), LIMIT_SECONDS
        )
        assert _status(server, again) == "SUCCESS"
    assert {job["metadata"]["uid"] for job in bench.cluster.jobs()} == jobs, "another Job was made"
    return time.monotonic() - began


def _launch(server: Any, name: str, epochs: range) -> str:
    [repository] = server.ask(LOCATIONS)["repositoriesOrError"]["nodes"]
    first, last = (partition_key(DATASET, epoch) for epoch in (epochs[0], epochs[-1]))
    params = {
        "selector": {
            "repositoryLocationName": repository["location"]["name"],
            "repositoryName": repository["name"],
            "jobName": "__ASSET_JOB",
            "assetSelection": [
                {"path": [name, asset]} for asset in ("model_checkpoint", "gpu_profile")
            ],
            "assetCheckSelection": [],
        },
        "runConfigData": {"ops": {f"{name}__fine_tune": {"config": {"retrain": True}}}},
        "executionMetadata": {
            "tags": [{"key": RANGE_START, "value": first}, {"key": RANGE_END, "value": last}]
        },
    }
    answer = server.ask(LAUNCH, params=params)["launchRun"]
    return answer["run"]["runId"] if "run" in answer else sys.exit(str(answer))


def _status(server: Any, run: str) -> str:
    return server.ask(STATUS, id=run)["runOrError"]["status"]


def _kill(bench: Demo, run: str) -> None:
    """SIGKILL to every process that works for a run, but not to its Job's pods."""
    said = " ".join(entry.message for entry in bench.here.instance.all_logs(run))
    for pid in {int(found) for found in re.findall(r"pid: (\d+)", said)}:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
