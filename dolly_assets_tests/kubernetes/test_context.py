"""Trainings through Dagster in a kubeconfig's cluster, with DeepSpeed in the worker's image.

    DOLLY_TEST_KUBECONTEXT   the context DOLLY_TEST_KUBERNETES    a file as DOLLY_KUBERNETES names:
    namespace, image, what pods need to reach the store DOLLY_TEST_STORE         a store that pods
    and this machine reach; the tests make a folder of their own in it

Weights are compared to the bit, so the nodes that pods may come to need the same processors. No GPU
is asked for.
"""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from dolly_assets.core.environment import Environment
from dolly_assets.core.names import epoch_key
from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.connection import connect
from dolly_assets.launchers.kubernetes.job import DEPLOYMENT, deployment_of
from dolly_assets.launchers.kubernetes.pods import ending
from dolly_assets.pipeline.session import Session
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.home import TINY_FAMILY, Home
from dolly_assets_tests.waiting import wait_until

VARIABLES = ("DOLLY_TEST_KUBECONTEXT", "DOLLY_TEST_KUBERNETES", "DOLLY_TEST_STORE")
EPOCHS = 12
ONE_POD = "compute: {cpu_ranks: 2, cpus: 2, memory_gib: 4}"
TWO_PODS = "compute: {nodes: 2, cpu_ranks: 1, cpus: 1, memory_gib: 4}"
FAMILIES = {"one_pod": ONE_POD, "two_pods": TWO_PODS, "evicted": TWO_PODS, "interrupted": TWO_PODS}
WAIT_SECONDS = 600
# A process of its own, which can be interrupted; arguments are the family and its epochs.
TRAIN = """
import os, sys
from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.core.environment import Environment
from dolly_assets.pipeline.session import Session

family, epochs = sys.argv[1], int(sys.argv[2])
session = Session(Environment.read(os.environ))
session.register_datasets(["animals"])
session.materialize([[family, "base_model"]])
session.materialize([["raw_dataset"], [family, "tokenized_dataset"]], "animals")
trained = [[family, "model_checkpoint"], [family, "gpu_profile"]]
session.materialize(trained, partition_key("animals", 1), partition_key("animals", epochs))
"""

pytestmark = pytest.mark.skipif(
    any(name not in os.environ for name in VARIABLES),
    reason=f"no cluster is named: {', '.join(VARIABLES)}",
)


class Deployment:
    """A home whose workers run in the named cluster, and that cluster."""

    def __init__(self, home: Home, settings: dict[str, Any], store_url: str) -> None:
        self.home, self.store_url = home, store_url
        self.context = settings["context"]
        self.api = Api(settings["namespace"], self.context)
        self.session = Session(Environment.read({**os.environ, **home.variables}))

    def jobs(self) -> list[Any]:
        """This deployment's Jobs that have not ended."""
        jobs = self.api.jobs({DEPLOYMENT: deployment_of(self.store_url)})
        return [job for job in jobs if not ending(job)]

    def pods(self) -> list[Any]:
        """Their pods that run."""
        pods = [pod for job in self.jobs() for pod in self.api.list_pods(job.metadata.name).items]
        return [pod for pod in pods if pod.status.phase == "Running"]

    def evict(self, pod: Any) -> None:
        """Evict a pod, as a drain of its node does."""
        from kubernetes import client

        name = {"name": pod.metadata.name}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": name}
        core = client.CoreV1Api(connect(self.context))
        core.create_namespaced_pod_eviction(pod.metadata.name, self.api.namespace, body)

    def checkpoint(self, family: str, epoch: int) -> Artifact | None:
        """The newest one of an epoch in the store."""
        return self.session.store.latest(f"{family}/model_checkpoint/animals/{epoch_key(epoch)}")

    def weights(self, family: str) -> object:
        """What names the weights of the last epoch."""
        artifact = self.checkpoint(family, EPOCHS)
        assert artifact
        return artifact.manifest.attributes["weights_sha256"]

    def start(self, family: str) -> subprocess.Popen[str]:
        """A run that trains all epochs."""
        return subprocess.Popen(
            [sys.executable, "-c", TRAIN, family, str(EPOCHS)],
            env={**os.environ, **self.home.variables},
            stderr=subprocess.PIPE,
            text=True,
        )

    def train(self, family: str) -> None:
        """Trains to the end."""
        process = self.start(family)
        _, said = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0, said

    def started(self, family: str) -> subprocess.Popen[str]:
        """The same, when it has published its first epoch."""
        process = self.start(family)

        def has_published() -> bool:
            assert process.poll() is None, process.communicate()[1]
            return self.checkpoint(family, 1) is not None

        wait_until(has_published, WAIT_SECONDS)
        return process


@pytest.fixture(scope="module")
def deployment(
    new_home: Callable[[], Home], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """One in which one pod has trained all epochs in one go."""
    context, settings_file, store = (os.environ[name] for name in VARIABLES)
    settings = {**yaml.safe_load(Path(settings_file).read_text()), "context": context}
    file = tmp_path_factory.mktemp("deployment") / "kubernetes.yaml"
    file.write_text(yaml.safe_dump(settings))
    url = f"{store.rstrip('/')}/test-{uuid.uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOLLY_KUBERNETES", str(file))
        patch.setenv("DOLLY_STORE", url)
        home = new_home()
        for name, compute in FAMILIES.items():
            (home.path / "defs" / name).mkdir()
            family = TINY_FAMILY.replace("compute: {cpu_ranks: 2}", compute).replace(
                "epochs: 4", f"epochs: {EPOCHS}"
            )
            (home.path / "defs" / name / "defs.yaml").write_text(family)
        deployment = Deployment(home, settings, url)
        deployment.train("one_pod")
        yield deployment
    files = ObjectStore(url)
    files.delete(files.keys(""))


def test_two_pods_give_the_weights_of_one(deployment: Deployment) -> None:
    deployment.train("two_pods")
    assert deployment.weights("two_pods") == deployment.weights("one_pod")
    assert not deployment.jobs()


def test_an_evicted_pod_begins_again_by_itself(deployment: Deployment) -> None:
    process = deployment.started("evicted")
    pod = deployment.pods()[-1]
    deployment.evict(pod)
    _, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, said
    key = dg.AssetKey(["evicted", "model_checkpoint"])
    observed = deployment.session.instance.fetch_observations(
        dg.AssetRecordsFilter(key), limit=1
    ).records
    observation = observed[0].event_log_entry.asset_observation
    assert observation
    assert observation.metadata["restarts"].value == 1
    assert deployment.weights("evicted") == deployment.weights("one_pod")
    assert not deployment.jobs()


def test_a_training_that_is_interrupted_ends_its_job_and_goes_on_when_asked_again(
    deployment: Deployment,
) -> None:
    process = deployment.started("interrupted")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode != 0, said
    assert not deployment.jobs()
    assert not deployment.checkpoint("interrupted", EPOCHS)
    deployment.train("interrupted")
    assert deployment.weights("interrupted") == deployment.weights("one_pod")
