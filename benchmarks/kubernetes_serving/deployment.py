"""Servers on a real cluster: applied, asked by a pod of clients, and who reaches them.

It knows pods and addresses, not what is trained.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.kubernetes_deployed.deployment import kubectl, seconds_until
from benchmarks.kubernetes_serving.objects import TOKEN, Object, pod
from deploy.serving import NAME
from dolly_assets_tests.deploy.test_real_cluster import CONNECT, LISTEN
from dolly_assets_tests.kubernetes.real import CHECKOUT, IMAGE, RealCluster

CLIENTS = f"{NAME}/clients"
URL = f"http://{NAME}.{NAME}.svc.cluster.local/v1/"


class Serving:
    """Servers in a cluster.

    Attributes:
        cluster: The cluster.
    """

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl, in the servers' namespace unless objects name theirs."""
        namespace = () if given else ("-n", NAME)
        command = [*kubectl(self.cluster), *namespace, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Apply objects."""
        self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))

    def wait_for_rollout(self) -> None:
        """Wait until all pods are of the newest template, ready, and the former ones ending."""
        self.kubectl("rollout", "status", f"deploy/{NAME}", "--timeout=900s")

    def servers(self) -> list[Any]:
        """Return the pods of servers, also those that are ending."""
        label = f"app.kubernetes.io/name={NAME}"
        return self.cluster.core.list_namespaced_pod(NAME, label_selector=label).items

    @contextmanager
    def clients(self, model: str, count: int) -> Iterator[dict[str, Any]]:
        """Have clients ask meanwhile; afterwards the dictionary has what they saw."""
        env = {"DOLLY_SERVE_TOKEN": TOKEN, "PYTHONPATH": str(CHECKOUT)}
        module = ("-m", "benchmarks.kubernetes_serving.clients", URL, model, str(count))
        self.apply(pod(CLIENTS, IMAGE, env, *module))
        seen: dict[str, Any] = {}
        seconds_until(lambda: self.phase(CLIENTS) == "Running" and "asking" in self.log(CLIENTS))
        yield seen
        self.kubectl("exec", "clients", "--", "kill", "-TERM", "1")
        seconds_until(lambda: self.phase(CLIENTS) in {"Succeeded", "Failed"})
        seen |= json.loads(self.log(CLIENTS).splitlines()[-1])

    def phase(self, place: str) -> str:
        """Return the phase of a pod `NAMESPACE/NAME`."""
        namespace, _, name = place.partition("/")
        return self.cluster.core.read_namespaced_pod(name, namespace).status.phase

    def log(self, place: str) -> str:
        """Return the log of a pod."""
        namespace, _, name = place.partition("/")
        return self.kubectl("logs", name, "-n", namespace)

    def reached_by_server(self, *places: str) -> list[str]:
        """Return the places `HOST:PORT` to which a server can connect."""
        command = ("exec", f"deploy/{NAME}", "-c", "server", "--", sys.executable, "-S", "-c")
        return json.loads(self.kubectl(*command, CONNECT, *places))

    def reached_by(self, stranger: str, *places: str) -> list[str]:
        """Return the same of a pod `NAMESPACE/NAME`, which is made for it."""
        self.apply(pod(stranger, IMAGE, {}, "-S", "-c", CONNECT, *places))
        seconds_until(lambda: self.phase(stranger) == "Succeeded")
        return json.loads(self.log(stranger))

    def listen(self, place: str, port: int) -> str:
        """Have a pod listen, and return its address."""
        namespace, _, name = place.partition("/")
        self.apply(pod(place, IMAGE, {}, "-S", "-c", LISTEN, str(port)))
        seconds_until(lambda: self.phase(place) == "Running")
        return f"{self.cluster.core.read_namespaced_pod(name, namespace).status.pod_ip}:{port}"


def variables(address: str, port: int) -> dict[str, str]:
    """Return what belongs to this cluster: the store's address, and the programs of the pods."""
    return {
        "AWS_ENDPOINT_URL": f"http://{address}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "DOLLY_STORE": os.environ["DOLLY_STORE"],
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(CHECKOUT),
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def serving(cluster: RealCluster, objects: list[Object]) -> Iterator[tuple[Serving, float]]:
    """Apply everything, wait until servers are ready, and remove it; yields after how long."""
    found, began = Serving(cluster), time.monotonic()
    [namespace] = (each for each in objects if each["kind"] == "Namespace")
    found.kubectl("apply", "-f", "-", given=yaml.safe_dump(namespace))
    found.apply(*objects)
    try:
        seconds_until(lambda: len(found.servers()) > 1)  # the autoscaler's least
        found.wait_for_rollout()
        yield found, time.monotonic() - began
    finally:
        found.kubectl("delete", "namespace", NAME)
