"""The launcher on a real Kubernetes: what the stand-in cannot prove, one end after the other.

The workers are those of the stand-in's tests, in real containers. `DOLLY_TEST_CLUSTER` names the
program that makes the cluster (see `real.py`). The most telling ones run in `make test`, all others
in `make test-long`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dolly_assets.core.errors import WorkerError, WorkerStopped
from dolly_assets.launchers.kubernetes.job import Owner
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.kubernetes.real import IMAGE, SMALL, RealCluster, needs_a_real_cluster

AGAIN = Owner("run-2", "run-2", "fine_tune")
Make = Callable[..., Directed]

pytestmark = needs_a_real_cluster


@pytest.fixture
def cluster(real_cluster: RealCluster) -> Iterator[RealCluster]:
    yield real_cluster
    for job in real_cluster.jobs():
        real_cluster.api.delete_job(job.metadata.name)
    real_cluster.wait(lambda: not real_cluster.pods())


@pytest.fixture
def directed(cluster: RealCluster) -> Make:
    shared = cluster.shared()

    def make(container: dict[str, Any] | None = None, **options: Any) -> Directed:
        settings = {**cluster.settings(shared, **(container or {})), **options.pop("settings", {})}
        compute = {**SMALL, **options.pop("compute", {})}
        return Directed(shared, cluster, settings, compute, **options)  # pyright: ignore[reportArgumentType]

    return make


def in_epoch_2(training: Directed) -> None:
    training.let(1)
    training.start()
    training.wait("begun", 2, times=training.spec.family.compute.nodes)


@pytest.mark.parametrize("nodes", [4, pytest.param(1, marks=pytest.mark.long)])
def test_pods_that_are_evicted_together_are_back_after_one_pause(
    cluster: RealCluster, directed: Make, nodes: int
) -> None:
    training = directed(compute={"nodes": nodes})
    in_epoch_2(training)
    for pod in cluster.running():  # as a rank does that loses another
        cluster.evict(pod)
    seconds = cluster.wait(lambda: training.times("begun", 2) >= 2 * nodes)
    print(f"{nodes} pods back after {seconds:.1f} s")  # noqa: T201
    assert "was evicted (EvictionByEvictionAPI: " in training.log
    assert training.ends_whole().restarts == 1


def test_no_second_trainer_starts_while_a_pod_outlives_its_job(
    cluster: RealCluster, directed: Make
) -> None:
    training = directed()
    training.hold_saving()
    in_epoch_2(training)
    [pod] = cluster.running()
    cluster.delete_job("Background")
    again = directed(owner=AGAIN, epochs=(2, 3))
    again.start()
    cluster.wait(lambda: f"waiting for pod {pod.metadata.name} to finish saving" in again.log)
    assert [one.metadata.name for one in cluster.pods()] == [pod.metadata.name]
    training.let_save()
    error = training.end()
    assert isinstance(error, WorkerStopped)
    assert "was deleted: stopped at epoch 2" in str(error)
    again.let()
    assert again.end() is None
    assert again.is_whole()


def test_a_node_that_reboots_is_a_disruption(cluster: RealCluster, directed: Make) -> None:
    training = directed()
    in_epoch_2(training)
    [pod] = cluster.running()
    cluster.command("reboot", pod.spec.node_name)
    training.wait("begun", 2, times=2)
    assert f"was lost: node {pod.spec.node_name} has restarted (" in training.log
    assert training.ends_whole().restarts == 1


@pytest.mark.long
def test_a_node_that_does_not_answer_is_named_within_a_minute(
    cluster: RealCluster, directed: Make
) -> None:
    training = directed()
    in_epoch_2(training)
    [pod] = cluster.running()
    cluster.command("cut", pod.spec.node_name)
    try:
        silent = f"node {pod.spec.node_name} of {pod.metadata.name} does not answer: if it stays"
        cluster.wait(lambda: silent in training.log, 60)
    finally:
        cluster.command("join", pod.spec.node_name)
    cluster.wait(lambda: f"of {pod.metadata.name} answers again" in training.log)
    assert training.ends_whole().restarts == 0


@pytest.mark.long
def test_a_disruption_budget_keeps_no_gang_from_restarting(
    cluster: RealCluster, directed: Make
) -> None:
    """One of two pods is killed; the other has not noticed, and may not be evicted."""
    from kubernetes import client

    policy = client.PolicyV1Api(cluster.core.api_client)
    spec = {"maxUnavailable": 0, "selector": {"matchLabels": {"dolly-assets/family": "tiny"}}}
    budget = {"metadata": {"name": "spare-trainings"}, "spec": spec}
    policy.create_namespaced_pod_disruption_budget(cluster.namespace, budget)
    try:
        training = directed(compute={"nodes": 2})
        in_epoch_2(training)
        lost = cluster.running()[-1].metadata.name
        cluster.core.delete_namespaced_pod(lost, cluster.namespace, grace_period_seconds=0)
        cluster.wait(lambda: "together with the others" in training.log)
        training.wait("begun", 2, times=4)
        assert training.ends_whole().restarts == 1
    finally:
        policy.delete_namespaced_pod_disruption_budget("spare-trainings", cluster.namespace)


@pytest.mark.long
def test_a_log_goes_on_when_a_kubelet_restarts(
    cluster: RealCluster, directed: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    training = directed()
    in_epoch_2(training)
    [pod] = cluster.running()
    cluster.command("kubelet", pod.spec.node_name)
    training.let(2)
    training.wait("begun", 3)
    cluster.command("kubelet", pod.spec.node_name)
    assert training.ends_whole().restarts == 0
    said = capfd.readouterr().err
    assert [said.count(f"epoch {epoch} begins") for epoch in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.long
def test_memory_that_runs_out_is_said_and_the_failed_job_stays(
    cluster: RealCluster, directed: Make
) -> None:
    hungry = {"command": ["python", "-c", "x = b'1' * 10**9"]}
    training = directed(hungry, compute={"memory_gib": 0.1})
    with pytest.raises(WorkerError, match=r"\(OOMKilled\)\): raise compute.memory_gib from 0.1"):
        training.launch()
    assert cluster.has_ended()
    assert cluster.pods(), "it can still be described"


@pytest.mark.long
@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program"])
def test_an_image_without_the_workers_program_ends_the_job_at_once(
    cluster: RealCluster, directed: Make, program: str
) -> None:
    training = directed({"command": [program]})
    with pytest.raises(WorkerError, match=rf"the image {IMAGE} has no {program} .*StartError"):
        training.launch()
    assert f'exec: "{program}": ' in training.log
    assert cluster.has_ended()


@pytest.mark.long
def test_a_pod_that_outgrows_its_disk_says_so(cluster: RealCluster, directed: Make) -> None:
    fill = "open('/scratch/x','wb').write(bytes(10**8)); import time; time.sleep(100)"
    training = directed(
        {"command": ["python", "-c", fill]},
        compute={"kubernetes": {"ephemeral_storage_gib": 0.02}},
        settings={"restarts": 0},
    )
    with pytest.raises(WorkerError, match=r"raise compute.kubernetes.ephemeral_storage_gib"):
        training.launch()
    assert "(Evicted: " in training.log


@pytest.mark.long
def test_a_missing_secret_and_a_limit_range_are_named(cluster: RealCluster, directed: Make) -> None:
    limit = {"type": "Container", "default": {"ephemeral-storage": "1Gi", "cpu": "500m"}}
    metadata = {"name": "small"}
    cluster.core.create_namespaced_limit_range(
        cluster.namespace, {"metadata": metadata, "spec": {"limits": [limit]}}
    )
    try:
        training = directed(
            compute={"kubernetes": {"ephemeral_storage_gib": 2}},
            settings={"queue_minutes": 0.2},
        )
        with pytest.raises(WorkerError, match=r"must be less than or equal to cpu limit of 500m"):
            training.launch()
        assert "ephemeral" not in training.log
        assert training.log.count("FailedCreate") == 1
    finally:
        cluster.core.delete_namespaced_limit_range("small", cluster.namespace)
    training = directed(owner=AGAIN, settings={"start_minutes": 0.3})
    config = training.settings["config"]
    config["pod_spec_config"]["volumes"].append(
        {"name": "absent", "secret": {"secret_name": "absent"}}
    )
    config["container_config"]["volume_mounts"].append({"name": "absent", "mount_path": "/absent"})
    with pytest.raises(WorkerError, match=r'FailedMount: .*secret "absent" not found'):
        training.launch()


@pytest.mark.long
def test_a_node_that_is_gone_for_good_is_named_until_somebody_deletes_it(
    cluster: RealCluster, directed: Make
) -> None:
    training = directed()
    soon = {"effect": "NoExecute", "operator": "Exists", "toleration_seconds": 5}
    training.settings["config"]["pod_spec_config"]["tolerations"] = [
        {"key": f"node.kubernetes.io/{what}", **soon} for what in ("unreachable", "not-ready")
    ]
    in_epoch_2(training)
    [pod] = cluster.running()
    node = pod.spec.node_name
    cluster.command("crash", node)
    try:
        what_to_do = f"run `kubectl delete node {node}` or `kubectl taint nodes {node} "
        cluster.wait(lambda: what_to_do in training.log, 60)
        cluster.wait(lambda: f"is waiting: node {node} of " in training.log)
        cluster.core.delete_node(node)
        training.wait("begun", 2, times=2)
    finally:
        cluster.command("node", node)
    assert "was lost with its node (DeletionByPodGC" in training.log or "was moved" in training.log
    assert training.ends_whole().restarts == 1


@pytest.mark.long
def test_credentials_that_are_revoked_are_named(
    cluster: RealCluster, directed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.job_monitor.SILENCE_SECONDS", 5)
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.watch.WATCH_SECONDS", 5)
    account = cluster.account("revoked")
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(account))
        training = directed()
        in_epoch_2(training)
        cluster.core.delete_namespaced_service_account("revoked", cluster.namespace)
        error = training.end()
    assert "does not accept this account's credentials (Unauthorized): renew them" in str(error)
    assert len(cluster.running()) == 1
