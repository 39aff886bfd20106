"""A deployment on a real cluster: applied, asked through its UI, and removed.

It knows accounts and addresses, not what is trained.
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import yaml

from benchmarks.kubernetes_deployed import objects
from benchmarks.kubernetes_deployed.objects import DAGSTER, ENVIRONMENT, TRAINING, WEBSERVER
from deploy import chart
from deploy.check import DEPLOY
from dolly_assets.launchers.kubernetes.pods import ending
from dolly_assets_tests.deploy.policies import enforcing_server
from dolly_assets_tests.deploy.services import running_postgres
from dolly_assets_tests.kubernetes.real import GPU, IMAGE, RealCluster
from dolly_assets_tests.ui.server import Server
from dolly_assets_tests.waiting import wait_until

PATIENCE_SECONDS = 900
STORE_PORT = 443  # the only one that the network policy of trainings allows
STORE = f"s3://dolly-artifacts-{ENVIRONMENT}/models"
BUCKETS = (f"dolly-artifacts-{ENVIRONMENT}", f"dolly-logs-{ENVIRONMENT}")
KEYS = {
    (DAGSTER, "dolly-store"): "run",
    (DAGSTER, "dolly-collector"): "collector",
    (DAGSTER, "dolly-reports"): "reports",
    (TRAINING, "dolly-store"): "worker",
}


class Deployment:
    """Dagster in a cluster, and its trainings.

    Attributes:
        cluster: The cluster.
        server: The UI.
    """

    def __init__(self, cluster: RealCluster, server: Server) -> None:
        self.cluster, self.server = cluster, server

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl, which is beside the cluster's other programs or in PATH."""
        command = [*kubectl(self.cluster), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def in_code_location(self, *command: str) -> str:
        """Run a command in the code location's pod; both of its streams."""
        script = f"{' '.join(command)} 2>&1; true"
        return self.kubectl("-n", DAGSTER, "exec", "deploy/dolly", "--", "sh", "-c", script)

    def trainers(self) -> list[str]:
        """Return the pods of trainings that have not ended, each of which has booked a GPU."""
        pods = self.cluster.core.list_namespaced_pod(TRAINING).items
        alive = [pod for pod in pods if pod.status.phase in {"Pending", "Running"}]
        return sorted(pod.metadata.name for pod in alive if _trains(pod.spec))

    def jobs(self) -> list[str]:
        """Return the Jobs of trainings that have not ended."""
        from kubernetes import client

        batch: Any = client.BatchV1Api(self.cluster.core.api_client)
        jobs = [job for job in batch.list_namespaced_job(TRAINING).items if not ending(job)]
        return sorted(job.metadata.name for job in jobs if _trains(job.spec.template.spec))

    def kill_run(self, run: str) -> None:
        """Delete a run's pod by force, as if its machine were gone."""
        label = f"dagster/run-id={run}"
        self.kubectl("-n", DAGSTER, "delete", "pod", "-l", label, "--force", "--grace-period=0")


def _trains(pod: Any) -> bool:
    return GPU in (pod.containers[0].resources.limits or {})


def kubectl(cluster: RealCluster) -> list[str]:
    """Return the command for the cluster's administrator."""
    beside = cluster.folder / "bin" / "kubectl"
    return [str(beside if beside.exists() else "kubectl"), f"--kubeconfig={cluster.kubeconfig}"]


@contextmanager
def deployed(cluster: RealCluster, defs: Path, address: str) -> Iterator[Deployment]:
    """Apply everything, wait until the UI answers, and remove it at the end.

    Args:
        cluster: A cluster in which nothing is deployed.
        defs: Folder with the families, which pods see.
        address: This machine's, as pods reach it.
    """
    with running_postgres(address) as database, serving(cluster) as server:
        everything = [
            *objects.manifests(IMAGE, _overrides(defs, address)),
            *objects.secrets(KEYS, database.variables["DAGSTER_PG_PASSWORD"]),
            *objects.of_chart(IMAGE, address, {}),
        ]
        file = cluster.shared() / "objects.yaml"
        file.write_text(yaml.safe_dump_all(everything))
        command = kubectl(cluster)
        subprocess.run([*command, "apply", "-f", file], check=True, stdout=subprocess.DEVNULL)
        try:
            wait_until(server.is_up, PATIENCE_SECONDS)
            yield Deployment(cluster, server)
        finally:
            subprocess.run(
                [*command, "delete", "--ignore-not-found", "-f", file],
                check=True,
                stdout=subprocess.DEVNULL,
            )


def _overrides(defs: Path, address: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what belongs to this cluster: the store's address, the families, the programs."""
    programs = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    ours = {
        "AWS_ENDPOINT_URL": f"http://{address}:{STORE_PORT}",
        "AWS_ALLOW_HTTP": "true",
        "PATH": programs,
        "PYTHONPATH": str(DEPLOY.parent),
        "OMP_NUM_THREADS": "1",
    }
    home = chart.values_of(ENVIRONMENT).global_.dagster_home  # which our image sets
    settings = {**ours, "DAGSTER_HOME": home, "DOLLY_DEFS": str(defs), "DOLLY_AUTOMATION": "off"}
    [text] = (
        each["data"]["kubernetes.yaml"]
        for each in objects.manifests(IMAGE, {})
        if each["metadata"]["name"] == "dolly-kubernetes"
    )
    kubernetes = yaml.safe_load(text) | {"orphan_minutes": 1}
    variables = kubernetes["config"]["container_config"]["env"]
    variables += [{"name": name, "value": value} for name, value in ours.items()]
    rule = {"artifacts": "*/model_checkpoint/*", "publications": 1, "folders": {"state": 1}}
    policy = {"grace_hours": 0, "rules": [rule]}
    return {
        ("ConfigMap", "dolly-settings"): {"data": settings},
        ("ConfigMap", "dolly-kubernetes"): _file("kubernetes.yaml", kubernetes),
        ("ConfigMap", "dolly-retention"): _file("policy.yaml", policy),
    }


def _file(name: str, content: Any) -> dict[str, Any]:
    return {"data": {name: yaml.safe_dump(content)}}


@contextmanager
def store_at(address: str) -> Iterator[None]:
    """Serve the store and the logs, with the policies of each account, to pods and this process."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not each request
    with enforcing_server(DEPLOY / "iam", host=address, port=STORE_PORT) as url:
        os.environ.update(
            AWS_ENDPOINT_URL=url,
            AWS_ALLOW_HTTP="true",
            AWS_ACCESS_KEY_ID="administrator",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_REGION="us-east-1",
            AWS_DEFAULT_REGION="us-east-1",
        )
        for bucket in BUCKETS:
            boto3.client("s3").create_bucket(Bucket=bucket)
        yield


@contextmanager
def serving(cluster: RealCluster) -> Iterator[Server]:
    """Yield the UI at a port of this machine; the network policy lets others not connect."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forward = [*kubectl(cluster), "-n", DAGSTER, "port-forward", f"deploy/{WEBSERVER}"]
    script = f"while true; do {' '.join(forward)} {port}:8080; sleep 1; done"
    process = subprocess.Popen(
        ["bash", "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait()


def seconds_until(happened: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until something has happened, and return how long it took."""
    began = time.monotonic()
    wait_until(happened, seconds)
    return time.monotonic() - began
