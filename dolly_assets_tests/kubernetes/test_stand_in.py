"""The stand-in cluster through the real client: how Jobs end, and what the client sees."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dolly_assets_tests.kubernetes.cluster import NAMESPACE, Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, speed=10) as cluster:
        yield cluster


@pytest.fixture
def api(cluster: Cluster) -> Any:
    from kubernetes import client, config

    return client, config.new_client_from_config(str(cluster.kubeconfig))


def job(script: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "any", "command": ["python", "-uc", script]}
    container["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    body = {
        "completionMode": "Indexed",
        "completions": 1,
        "parallelism": 1,
        "template": template,
        **spec,
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": body}


def ended(cluster: Cluster) -> list[str]:
    return [
        item["type"]
        for job in cluster.jobs()
        for item in job.get("status", {}).get("conditions", [])
    ]


def test_a_job_runs_to_its_end_and_is_watched_and_read(cluster: Cluster, api: Any) -> None:
    from kubernetes import watch

    client, connection = api
    batch, core = client.BatchV1Api(connection), client.CoreV1Api(connection)
    version = batch.list_namespaced_job(NAMESPACE).metadata.resource_version
    batch.create_namespaced_job(
        NAMESPACE, job("import os; print('index', os.environ['JOB_COMPLETION_INDEX'])")
    )
    types = []
    events: Any = watch.Watch().stream(
        batch.list_namespaced_job, NAMESPACE, resource_version=version
    )
    for event in events:
        types.append(event["type"])
        if any(item.type == "Complete" for item in event["object"].status.conditions or []):
            break
    assert types[0] == "ADDED"
    [pod] = core.list_namespaced_pod(NAMESPACE, label_selector="job-name=job").items
    log = core.read_namespaced_pod_log(pod.metadata.name, NAMESPACE, _preload_content=False)
    assert log.data == b"index 0\n"
    assert pod.status.container_statuses[0].state.terminated.exit_code == 0


def test_failures_are_counted_as_the_policy_says(cluster: Cluster, api: Any) -> None:
    client, connection = api
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]
    body = job("import sys; sys.exit(3)", backoffLimit=5, podFailurePolicy={"rules": rules})
    client.BatchV1Api(connection).create_namespaced_job(NAMESPACE, body)
    cluster.wait(lambda: ended(cluster) == ["FailureTarget", "Failed"])
    [found] = cluster.jobs()
    assert found["status"]["failed"] == 1
    assert found["status"]["conditions"][1]["reason"] == "PodFailurePolicy"


def test_an_evicted_pod_is_asked_to_stop_and_replaced(cluster: Cluster, api: Any) -> None:
    client, connection = api
    script = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(75)); "
        "print('up'); time.sleep(60)"
    )
    client.BatchV1Api(connection).create_namespaced_job(NAMESPACE, job(script))
    cluster.wait(lambda: any("up" in cluster.log(pod) for pod in cluster.running()))
    [first] = cluster.running()
    cluster.evict(first)
    cluster.wait(
        lambda: [
            pod for pod in cluster.running() if pod["metadata"]["uid"] != first["metadata"]["uid"]
        ]
    )
    assert cluster.gpus_booked() == 1
    client.BatchV1Api(connection).delete_namespaced_job(
        "job", NAMESPACE, propagation_policy="Foreground"
    )
    cluster.wait(lambda: not cluster.jobs())
    assert not cluster.pods()


def test_what_is_forbidden_or_scripted_is_answered_so(cluster: Cluster, api: Any) -> None:
    client, connection = api
    cluster.fail(500, verb="list", plural="pods")
    cluster.forbid("create", "jobs")
    core = client.CoreV1Api(connection)
    with pytest.raises(client.ApiException) as raised:
        core.list_namespaced_pod(NAMESPACE)
    assert raised.value.status == 500
    assert core.list_namespaced_pod(NAMESPACE).items == []
    with pytest.raises(client.ApiException) as raised:
        client.BatchV1Api(connection).create_namespaced_job(NAMESPACE, job(""))
    assert raised.value.status == 403
    attributes = client.V1ResourceAttributes(
        namespace=NAMESPACE, verb="create", group="batch", resource="jobs"
    )
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    )
    answer = client.AuthorizationV1Api(connection).create_self_subject_access_review(review)
    assert answer.status.allowed is False
