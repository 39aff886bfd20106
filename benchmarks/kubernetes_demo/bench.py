"""A home whose families train here and in pods, and what came of it."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from dolly_assets.core.environment import PROJECT, Environment
from dolly_assets.core.names import epoch_key
from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.datasets import demo
from dolly_assets.pipeline.session import Session
from dolly_assets_tests.home import Home
from dolly_assets_tests.kubernetes.cluster import NAMESPACE, Cluster
from dolly_assets_tests.kubernetes.hands import Hand, StandInHand
from dolly_assets_tests.kubernetes.real import GPU, RealCluster
from dolly_assets_tests.kubernetes.real_hand import FEW_CPUS, RealHand

DATASET = "some_demo"
CORES = 2
SPEED = 20
LIMIT_SECONDS = 1200
FAMILIES = {
    "one": {"cpu_ranks": 1, "cpus": CORES},
    "two": {"cpu_ranks": 2, "cpus": CORES},
    "one_pod": {"cpu_ranks": 1, "cpus": CORES},
    "two_pods": {"cpu_ranks": 1, "cpus": CORES // 2, "nodes": 2},
}


class Demo:
    """A home with families for this machine and for pods of a cluster.

    Args:
        hand: What disturbs the cluster; its folder is seen by pods.
        settings: The deployment's settings.
        records: Number of examples.
        epochs: Number of epochs.
        families: Those of `FAMILIES` that are needed.
        store: URL of the store; a folder that pods see if it is empty.
        compute: Merged over what families request.
        is_imported: Whether the dataset is imported here, and not by what trains.
    """

    def __init__(
        self,
        hand: Hand,
        settings: dict[str, Any],
        records: int,
        epochs: int,
        families: tuple[str, ...] = tuple(FAMILIES),
        store: str = "",
        compute: Mapping[str, Any] | None = None,
        *,
        is_imported: bool = True,
    ) -> None:
        self.hand, self.epochs = hand, range(1, epochs + 1)
        self.home = Home(hand.folder / "home")
        for name in families:
            self._declare(name, epochs, held_out=records // 6, compute=compute or {})
        self.kubernetes_file = hand.folder / "kubernetes.yaml"
        self.kubernetes_file.write_text(yaml.safe_dump(settings))
        os.umask(0)  # pods have a user of their own
        os.environ.update(self.home.variables, DOLLY_STORE=store or str(hand.folder / "store"))
        self.here = Session(Environment.read())
        in_pods = {**os.environ, "DOLLY_KUBERNETES": str(self.kubernetes_file)}
        self.in_pods = Session(Environment.read(in_pods))
        self._add_dataset(records, is_imported=is_imported)

    def prepare(self, name: str) -> None:
        """Bring about what a family's training needs."""
        self.here.materialize([[name, "base_model"]])
        self.here.materialize([[name, "tokenized_dataset"]], DATASET)
        self.here.materialize([[name, "training_plan"]], DATASET)

    def _declare(self, name: str, epochs: int, held_out: int, compute: Mapping[str, Any]) -> None:
        family = yaml.safe_load(
            (PROJECT / "dolly_assets" / "defs" / "demo" / "defs.yaml").read_text()
        )
        needed = {**FAMILIES[name], "memory_gib": 4, **compute}
        family["attributes"].update(compute=needed, automation={})
        family["attributes"]["recipe"] |= {"epochs": epochs, "held_out_examples": held_out}
        (self.home.path / "defs" / name).mkdir(parents=True)
        (self.home.path / "defs" / name / "defs.yaml").write_text(yaml.safe_dump(family))

    def _add_dataset(self, records: int, *, is_imported: bool) -> None:
        rows = self.home.path / "demo.jsonl"
        rows.write_text(
            "".join(json.dumps(row) + "\n" for row in demo.generate(examples=records).to_pylist())
        )
        self.home.dolly("datasets", "add", DATASET, str(rows), "--answers", "exact")
        self.here.register_datasets([DATASET])
        if is_imported:
            self.here.materialize([["raw_dataset"]], DATASET)

    def train(self, name: str, session: Session) -> float:
        """Trains all epochs in one run; seconds."""
        began = time.monotonic()
        train(session, name, self.epochs)
        return time.monotonic() - began

    def count(self, name: str, epoch: int) -> int:
        """How often an epoch has been published."""
        return len(self.here.store.history(f"{name}/model_checkpoint/{DATASET}/{epoch_key(epoch)}"))

    def published_at(self, name: str) -> list[float]:
        """When each epoch was published, in seconds since 1970, up to the first that was not."""
        found = []
        for epoch in self.epochs:
            address = f"{name}/model_checkpoint/{DATASET}/{epoch_key(epoch)}"
            if not (artifact := self.here.store.latest(address)):
                break
            found.append(artifact.manifest.created_at.timestamp())
        return found

    def weights(self, name: str) -> list[str]:
        """Digests of the newest weights of each epoch."""
        found = [
            self.here.store.latest(f"{name}/model_checkpoint/{DATASET}/{epoch_key(each)}")
            for each in self.epochs
        ]
        return [
            str(artifact.manifest.attributes["weights_sha256"]) for artifact in found if artifact
        ]

    def log(self, name: str) -> list[tuple[float, str]]:
        """Return what a family's newest training logged, and when."""
        training = dg.AssetKey([name, "model_checkpoint"])
        runs = self.here.instance.get_runs()
        run = next(run.run_id for run in runs if training in (run.asset_selection or ()))
        return [(entry.timestamp, entry.message) for entry in self.here.instance.all_logs(run)]

    def restarts(self, name: str) -> int:
        """How often the Job of a family's newest training has restarted, as its log says."""
        log = "\n".join(text for _, text in self.log(name))
        return max(map(int, re.findall(r"with (\d+) restart", log)), default=0)

    def in_epoch_2(self, name: str) -> Callable[[], bool]:
        """Whether the training that begins now is in its second epoch."""
        before = self.count(name, 1)
        return lambda: self.count(name, 1) > before


def train(session: Session, name: str, epochs: range) -> None:
    """Train epochs of a family in one run."""
    keys = [[name, asset] for asset in ("model_checkpoint", "gpu_profile")]
    first, last = (partition_key(DATASET, epoch) for epoch in (epochs[0], epochs[-1]))
    session.materialize(keys, first, last, {f"{name}__fine_tune": {"config": {"retrain": True}}})


@contextmanager
def on_the_stand_in(folder: Path) -> Iterator[tuple[Hand, dict[str, Any]]]:
    """Yield a stand-in with the headless Service, and a deployment's settings for it."""
    with Cluster(folder / "cluster", speed=SPEED) as cluster:
        service = {"metadata": {"name": "dolly-workers"}, "spec": {"clusterIP": "None"}}
        cluster.apply({"kind": "Service", **service})
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        yield StandInHand(cluster, folder), {"namespace": NAMESPACE, "image": "worker:1"}


@contextmanager
def on_a_real_cluster() -> Iterator[tuple[RealHand, dict[str, Any]]]:
    """Yield a real cluster, in whose pods this checkout is the worker's image."""
    cluster = RealCluster()
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    cluster.start()
    hand = RealHand(cluster)
    resources = {**FEW_CPUS, "limits": {GPU: "1"}}  # which is booked, and trains nothing
    settings = cluster.settings(hand.folder, resources=resources)
    del settings["config"]["container_config"]["command"]  # the worker's own
    try:
        yield hand, {**settings, "restarts": 100}
    finally:
        hand.close()
        cluster.close()
