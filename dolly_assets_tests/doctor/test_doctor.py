"""`dolly doctor` of this machine, and of a stand-in cluster with and without access to S3."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dolly_assets.cli.main import main
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.kubernetes import api_server
from dolly_assets_tests.kubernetes.cluster import NAMESPACE, Cluster

Doctor = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster", speed=20) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Runs `dolly doctor`; its exit code and its lines."""

    def run(*arguments: str, **variables: str) -> tuple[int, list[str]]:
        home = {
            "DOLLY_HOME": str(tmp_path / "home"),
            "DAGSTER_HOME": "",
            "DOLLY_DEFS": "",
            **variables,
        }
        for name, value in home.items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(main, ["doctor", *arguments])
        return result.exit_code, result.output.splitlines()

    return run


def settings(folder: Path, **more: Any) -> str:
    """A deployment whose pods get what they need for S3 from the Secret `dolly-store`."""
    config = {
        "container_config": {"env_from": [{"secret_ref": {"name": "dolly-store"}}]},
        "pod_spec_config": {"image_pull_secrets": [{"name": "registry"}]},
    }
    file = folder / "kubernetes.yaml"
    file.write_text(
        yaml.safe_dump({"namespace": NAMESPACE, "image": "worker:1", "config": config, **more})
    )
    return str(file)


def store_secret(endpoint: str) -> dict[str, Any]:
    values = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
    values |= {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}
    return {"kind": "Secret", "metadata": {"name": "dolly-store"}, "stringData": values}


def quota(gpus: int) -> dict[str, Any]:
    hard = {"requests.nvidia.com/gpu": str(gpus)}
    return {
        "kind": "ResourceQuota",
        "metadata": {"name": "trainings"},
        "spec": {"hard": hard},
        "status": {"hard": hard},
    }


def limit_range(**most: str) -> dict[str, Any]:
    return {
        "kind": "LimitRange",
        "metadata": {"name": "trainings"},
        "spec": {"limits": [{"type": "Container", "max": most}]},
    }


def found(lines: list[str], state: str) -> str:
    return "\n".join(line for line in lines if line.startswith(state))


def test_a_deployment_that_has_everything_is_well(
    cluster: Cluster, doctor: Doctor, s3: str, s3_endpoint: str, tmp_path: Path
) -> None:
    cluster.apply(
        {"kind": "Service", "metadata": {"name": "dolly-workers"}, "spec": {"clusterIP": "None"}}
    )
    cluster.apply({"kind": "Secret", "metadata": {"name": "registry"}})
    cluster.apply(store_secret(s3_endpoint))
    cluster.apply(quota(64))
    cluster.apply(limit_range(memory="1Ti"))
    code, lines = doctor("--kubernetes", DOLLY_STORE=s3, DOLLY_KUBERNETES=settings(tmp_path))
    assert not found(lines, "MISSING")
    assert not found(lines, "unknown")
    assert code == 0
    assert "8 nvidia.com/gpu on 1 of 1 nodes" in found(lines, "ok")
    assert "0 of 64 requests.nvidia.com/gpu used" in found(lines, "ok")
    assert "LimitRange trainings: accepts the pods of every family" in found(lines, "ok")
    assert "store from a pod: written in" in found(lines, "ok")
    cluster.wait(lambda: not cluster.jobs())
    assert not list(ObjectStore(s3).keys(""))


def test_what_is_missing_is_said_with_what_to_do(
    cluster: Cluster,
    doctor: Doctor,
    denying: str,
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(api_server.VERSION, "minor", "28+")
    cluster.apply(
        {
            "kind": "Service",
            "metadata": {"name": "dolly-workers"},
            "spec": {"clusterIP": "10.0.0.1"},
        }
    )
    cluster.apply(store_secret(denying))
    cluster.apply(quota(1))
    cluster.apply(limit_range(memory="500Gi"))
    cluster.objects.remove("nodes", "", "node-1")
    cluster.forbid("patch", "jobs")
    code, lines = doctor("--kubernetes", DOLLY_STORE=s3, DOLLY_KUBERNETES=settings(tmp_path))
    missing = found(lines, "MISSING")
    assert code == 1
    for text in (
        ": Jobs need 1.29 or newer, upgrade it",
        "permission: this account may not patch jobs.batch in dolly: bind the Role `trainings`",
        "Service dolly-workers: has a cluster IP, so that pods have no DNS names: apply deploy/",
        "GPUs: 0 nvidia.com/gpu on 0 of 0 nodes, but",
        "requests more nvidia.com/gpu on",
        "LimitRange trainings: pythia_12b asks for 819200Mi of memory, more than the most, 500Gi",
        "Secret registry: not in dolly, but Jobs refer to it",
        "access denied; check the credentials",
    ):
        assert text in missing
    assert "this account may not list" not in missing


def test_what_may_not_be_seen_is_unknown_and_a_pod_that_does_not_start_says_why(
    cluster: Cluster, doctor: Doctor, tmp_path: Path
) -> None:
    for resource in ("nodes", "resourcequotas", "limitranges"):
        cluster.forbid("list", resource)
    for resource in ("services", "secrets"):
        cluster.forbid("get", resource)
    cluster.break_images("ImagePullBackOff")
    code, lines = doctor(
        "--kubernetes", DOLLY_STORE="", DOLLY_KUBERNETES=settings(tmp_path, start_minutes=0.02)
    )
    assert code == 1
    for what in (
        "GPUs",
        "quota",
        "LimitRange",
        "Service dolly-workers",
        "Secret dolly-store",
        "Secret registry",
    ):
        assert f"{what}: not visible to this account" in found(lines, "unknown")
    assert "no pod has finished within start_minutes: ImagePullBackOff" in found(lines, "MISSING")
    cluster.wait(lambda: not cluster.jobs())


def test_a_cluster_that_is_not_there_is_missing(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, lines = doctor("--kubernetes", DOLLY_KUBERNETES=settings(tmp_path))
    assert code == 1
    assert "cluster: cannot connect to a Kubernetes cluster" in found(lines, "MISSING")


def test_a_machine_is_well_or_its_store_and_families_are_said_to_be_wrong(
    doctor: Doctor, tmp_path: Path
) -> None:
    code, lines = doctor()
    assert (code, found(lines, "MISSING")) == (0, "")
    (tmp_path / "defs" / "tiny").mkdir(parents=True)
    (tmp_path / "defs" / "tiny" / "defs.yaml").write_text("type: unknown")
    code, lines = doctor(DOLLY_STORE="ftp://host/folder", DOLLY_DEFS=str(tmp_path / "defs"))
    assert code == 1
    assert "store: 'ftp://host/folder' is not a store URL" in found(lines, "MISSING")
    assert "model families: " in found(lines, "MISSING")


def test_a_package_of_another_version_than_required_is_missing(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact requirements and ranges are read from this package's own metadata."""
    required = ["torch==0.1; extra == 'worker'", "dagster<0.2,>=0.1", "deepspeed>=0.1"]
    monkeypatch.setattr("dolly_assets.doctor.machine.requires", lambda _: required)
    code, lines = doctor()
    assert code == 1
    missing = found(lines, "MISSING")
    assert "which does not meet torch==0.1: pip install 'torch==0.1'" in missing
    assert "which does not meet dagster<0.2,>=0.1: pip install 'dagster<0.2,>=0.1'" in missing
    assert "deepspeed: " in found(lines, "ok")


@pytest.fixture
def denying() -> Iterator[str]:
    """An S3 endpoint that denies every request."""

    class Deny(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_HEAD = do_GET  # noqa: N815

    server = HTTPServer(("127.0.0.1", 0), Deny)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
