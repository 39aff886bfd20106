"""A real cluster for tests, made by the program that `DOLLY_TEST_CLUSTER` names.

    PROGRAM up FOLDER                        a control plane; prints `export KUBECONFIG=…`
    PROGRAM node FOLDER node-N --gpus N      a node, Ready
    PROGRAM crash|reboot|cut|join FOLDER node-N
    PROGRAM kubelet FOLDER node-N            its kubelet restarts
    PROGRAM down FOLDER

Pods of the image `localhost/this-machine:1` see this machine's files, this checkout among them, but
for `/tmp`. `DOLLY_TEST_CLUSTER_FOLDER` is where the cluster and what pods share are kept.
"""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.pods import Job, Pod, ending

PROGRAM = "DOLLY_TEST_CLUSTER"
FOLDER = "DOLLY_TEST_CLUSTER_FOLDER"
DEFAULT_FOLDER = "/opt/dolly-test-cluster"
NODES, GPUS, GPU = ("node-1", "node-2"), 4, "nvidia.com/gpu"
IMAGE = "localhost/this-machine:1"
WORKER = ["python", "-m", "dolly_assets_tests.kubernetes.scripted_worker"]
CHECKOUT = Path(__file__).parents[2]
SMALL = {"cpus": 1, "memory_gib": 0.5, "save_minutes": 0.5}  # what a test's family requests
WAIT_SECONDS = 150
needs_a_real_cluster = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1800),  # the modules that need one take turns
    pytest.mark.skipif(PROGRAM not in os.environ, reason=f"no {PROGRAM} makes a cluster"),
    pytest.mark.skipif(CHECKOUT.is_relative_to("/tmp"), reason="pods have a /tmp of their own"),
]


class NoCluster(Exception):  # noqa: N818 it is no error of the code
    """The program cannot do what it is asked for on this machine."""


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Holds the cluster: what one process disturbs another one would not expect."""
    folder = Path(os.environ.get(FOLDER, DEFAULT_FOLDER))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class RealCluster:
    """A control plane and two nodes; those that run already are used."""

    def __init__(self) -> None:
        self._program = os.environ[PROGRAM]
        self.folder = Path(os.environ.get(FOLDER, DEFAULT_FOLDER))
        said = self.command("up")
        found = re.search(r"KUBECONFIG=(\S+)", said)
        assert found, said
        self.kubeconfig = Path(found[1])
        self.namespace = f"dolly-{uuid.uuid4().hex[:6]}"

    def start(self) -> None:
        """Adds nodes and a namespace with the headless Service."""
        there = {node.metadata.name for node in self.core.list_node().items}
        for name in NODES:
            if name not in there:
                self.command("node", name, "--gpus", str(GPUS))
        self.core.create_namespace({"metadata": {"name": self.namespace}})
        service = {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app.kubernetes.io/part-of": "dolly"},
        }
        metadata = {"name": "dolly-workers"}
        self.core.create_namespaced_service(self.namespace, {"metadata": metadata, "spec": service})

    def close(self) -> None:
        """Removes the namespace, unless a test has."""
        from kubernetes.client import ApiException

        with contextlib.suppress(ApiException):
            self.core.delete_namespace(self.namespace)

    def command(self, name: str, *arguments: str) -> str:
        """Runs a command of the program; its output."""
        done = subprocess.run(
            [self._program, name, str(self.folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().rpartition("\n")[2]
            raise NoCluster(f"`{self._program} {name}` failed: {said}")
        return done.stdout

    @property
    def core(self) -> Any:
        from kubernetes import client, config

        return client.CoreV1Api(config.new_client_from_config(str(self.kubeconfig)))

    @property
    def api(self) -> Api:
        return Api(self.namespace)

    def shared(self) -> Path:
        """A folder that pods and this machine write to."""
        folder = self.folder / "shared" / uuid.uuid4().hex[:8]
        for each in (folder, folder / "store"):
            each.mkdir(parents=True)
            each.chmod(0o777)  # pods have a user of their own
        return folder

    def settings(self, folder: Path, **container: Any) -> dict[str, Any]:
        """The deployment's settings with which pods run the scripted worker."""
        env = {"SCRIPT": str(folder), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
        mount = {"name": "shared", "mount_path": str(folder)}
        return {
            "namespace": self.namespace,
            "image": IMAGE,
            "config": {
                "container_config": {
                    "command": WORKER,
                    "working_dir": str(CHECKOUT),
                    "env": [{"name": name, "value": value} for name, value in env.items()],
                    "volume_mounts": [mount],
                    **container,
                },
                "pod_spec_config": {
                    "volumes": [{"name": "shared", "host_path": {"path": str(folder)}}]
                },
            },
        }

    def account(self, name: str) -> Path:
        """The kubeconfig of a new account, with what the Role `trainings` of deploy/ allows."""
        from kubernetes import client

        roles = yaml.safe_load_all((CHECKOUT / "deploy/kubernetes/base/roles.yaml").read_text())
        [role] = [
            item
            for item in roles
            if (item["kind"], item["metadata"]["name"]) == ("Role", "trainings")
        ]
        role["metadata"]["namespace"] = self.namespace
        rbac = client.RbacAuthorizationV1Api(self.core.api_client)
        rbac.create_namespaced_role(self.namespace, role)
        group = "rbac.authorization.k8s.io"
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "trainings"},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.namespace}],
        }
        rbac.create_namespaced_role_binding(self.namespace, binding)
        self.core.create_namespaced_service_account(self.namespace, {"metadata": {"name": name}})
        token = self.core.create_namespaced_service_account_token(
            name, self.namespace, {"spec": {}}
        )
        document = yaml.safe_load(self.kubeconfig.read_text())
        document["users"][0]["user"] = {"token": token.status.token}
        file = self.shared() / "kubeconfig"
        file.write_text(yaml.safe_dump(document))
        return file

    def pods(self) -> list[Pod]:
        return self.core.list_namespaced_pod(self.namespace).items

    def running(self) -> list[Pod]:
        """The pods whose worker runs, whether they are ending or not."""
        return [pod for pod in self.pods() if pod.status.phase == "Running"]

    def jobs(self) -> list[Job]:
        return self.api.jobs({})

    def has_ended(self) -> bool:
        [job] = self.jobs()
        return ending(job) is not None

    def evict(self, pod: Pod) -> None:
        """As a drain of its node does."""
        name = pod.metadata.name
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        self.core.create_namespaced_pod_eviction(name, self.namespace, body)

    def delete_job(self, policy: str) -> None:
        """What `kubectl delete job` does, with a policy of its own."""
        from kubernetes import client

        batch = client.BatchV1Api(self.core.api_client)
        [name] = [job.metadata.name for job in self.jobs() if not ending(job)]
        batch.delete_namespaced_job(name, self.namespace, propagation_policy=policy)

    def wait(self, happened: Callable[[], object], seconds: float = WAIT_SECONDS) -> float:
        """Returns when it has happened: after how many seconds."""
        began = time.monotonic()
        while not happened():
            assert time.monotonic() < began + seconds, "it never happened"
            time.sleep(0.1)
        return time.monotonic() - began
