"""deploy/ on a real Kubernetes: accepted, with the permissions it needs and no others, and closed.

`DOLLY_TEST_CLUSTER` names the program that makes the cluster (see `kubernetes/real.py`). Nothing of
Dagster runs: pods are small ones in the place of its own. The namespaces have their real names, so
that there must be no deployment in the cluster.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import chart, check, instance, pods, rights
from dolly_assets.core.environment import Environment
from dolly_assets.launchers.kubernetes.job import Owner, build_job
from dolly_assets.launchers.kubernetes.rights import Right
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.pipeline.declared import read_declared
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.kubernetes.real import IMAGE, RealCluster, needs_a_real_cluster

pytestmark = [*needs_a_real_cluster, pytest.mark.long]

DAGSTER, TRAINING = "dagster", "dolly-training"
# What every account may do: ask what it may do.
OF_ALL = {
    Right("create", group, resource)
    for group, resource in (
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
    )
}
LISTEN = """
import socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while True:
    server.accept()[0].close()
"""
# The network learns of a new pod some seconds after it has started, and says nothing when it has.
CONNECT = """
import json, socket, sys, time
time.sleep(10)
reached = []
for place in sys.argv[1:]:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        reached.append(place)
    except OSError:
        pass
print(json.dumps(reached))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    """A cluster with nodes, and nothing deployed in it."""
    with pytest.MonkeyPatch.context() as patch:
        cluster = RealCluster()
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        cluster.start()
        yield cluster
        cluster.close()


@pytest.fixture(scope="module")
def deployed(cluster: RealCluster) -> Iterator[RealCluster]:
    """The objects of base and staging, as Kustomize lists them."""
    from kubernetes import dynamic

    core = cluster.core
    found = [each for folder in ("base", "staging") for _, each in check.objects(folder)]
    found = [each for each in found if each["kind"] != "Kustomization"]
    found.sort(key=lambda each: each["kind"] != "Namespace")
    client = dynamic.DynamicClient(core.api_client)
    for each in found:
        api = client.resources.get(api_version=each["apiVersion"], kind=each["kind"])
        api.create(body=each, namespace=each["metadata"].get("namespace"))
    yield cluster
    for name in (DAGSTER, TRAINING):
        core.delete_namespace(name)
    client.resources.get(api_version="scheduling.k8s.io/v1", kind="PriorityClass").delete(
        name="dolly-training"
    )

    def are_gone() -> bool:
        left = {each.metadata.name for each in core.list_namespace().items}
        return not left & {DAGSTER, TRAINING}

    cluster.wait(are_gone)


def may(cluster: RealCluster, account: str, namespace: str) -> set[Right]:
    """What an account may do in a namespace, by the cluster's own answer."""
    from kubernetes import client

    connection = cluster.core.api_client
    name = account.replace("/", ":")
    connection.set_default_header("Impersonate-User", f"system:serviceaccount:{name}")
    connection.set_default_header("Impersonate-Group", "system:authenticated")
    review = client.V1SelfSubjectRulesReview(
        spec=client.V1SelfSubjectRulesReviewSpec(namespace=namespace)
    )
    answer: Any = client.AuthorizationV1Api(connection).create_self_subject_rules_review(review)
    return {
        Right(verb, group, resource)
        for rule in answer.status.resource_rules
        for verb in rule.verbs
        for group in rule.api_groups or ()
        for resource in rule.resources or ()
    }


def test_each_account_may_do_what_its_code_needs_and_nothing_else(deployed: RealCluster) -> None:
    needed = rights.needed()
    allowed = {
        ("dagster/dagster", DAGSTER): needed["runs"],
        ("dagster/dolly-run", TRAINING): needed["trainings"],
    }
    accounts = [
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for _, each in check.objects("base")
        if each["kind"] == "ServiceAccount"
    ]
    assert len(accounts) == 5
    for account in accounts:
        for namespace in (DAGSTER, TRAINING, "kube-system"):
            found = may(deployed, account, namespace) - OF_ALL
            assert found == allowed.get((account, namespace), set()), (account, namespace)


def test_all_pods_are_accepted_by_pod_security_quota_and_limit_range(
    deployed: RealCluster, tmp_path: Path
) -> None:
    """Those of the chart and of runs, and the trainings of all families, by the API's own check."""
    values = chart.values_of("staging")
    image = values.dagster_user_deployments.deployments[0].image
    run = instance.run_job(chart.dagster_yaml(values), f"{image.repository}:{image.tag}")
    found = [(DAGSTER, pod) for pod in chart.pods(values).values()]
    found.append((DAGSTER, pods.pod_of(run) or {}))
    for pod in found:
        for container in pod[1]["containers"]:
            container.setdefault("image", IMAGE)
    [text] = (
        each["data"]["kubernetes.yaml"]
        for _, each in check.objects("staging")
        if "kubernetes.yaml" in each.get("data", {})
    )
    settings = KubernetesSettings.model_validate(yaml.safe_load(text))
    for family in read_declared(Environment.read({})).families.values():
        directed = Directed(tmp_path, cluster=None)  # pyright: ignore[reportArgumentType]
        spec = directed.spec.model_copy(update={"family": family})
        template = build_job(spec, settings, Owner("run", "run", "step")).spec.template
        found.append((TRAINING, template.spec))
    for namespace, spec in found:
        pod = {"metadata": {"generateName": "accepted-"}, "spec": spec}
        deployed.core.create_namespaced_pod(namespace, pod, dry_run="All")


def start(cluster: RealCluster, place: str, program: str, *arguments: str) -> None:
    """Starts a pod `NAMESPACE/NAME` with that name as its label, as the policies select it."""
    namespace, _, name = place.partition("/")
    secured = chart.values_of("staging").dagster_webserver
    container = {
        "name": "pod",
        "image": IMAGE,
        "command": [sys.executable, "-S", "-c", program, *arguments],
        "securityContext": secured.security_context,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
    }
    metadata = {"name": name, "labels": {"app.kubernetes.io/name": name}}
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": secured.pod_security_context,
        "containers": [container],
    }
    cluster.core.create_namespaced_pod(namespace, {"metadata": metadata, "spec": spec})


def test_only_those_connect_who_have_to(deployed: RealCluster) -> None:
    core = deployed.core
    servers = {"dagster/webserver": 8080, "dagster/dolly-reports": 3001, TRAINING + "/rank": 29500}
    for place, port in servers.items():
        start(deployed, place, LISTEN, str(port))

    def pod(place: str) -> Any:
        namespace, _, name = place.partition("/")
        return core.read_namespaced_pod(name, namespace)

    deployed.wait(lambda: all(pod(each).status.phase == "Running" for each in servers))
    address = {f"{pod(each).status.pod_ip}:{port}": each for each, port in servers.items()}
    expected: dict[str, set[str]] = {
        "dagster/oauth2-proxy": {"dagster/webserver", "dagster/dolly-reports"},
        "dagster/run": {"dagster/webserver"},
        TRAINING + "/other-rank": {TRAINING + "/rank"},
        "default/stranger": set(),
    }
    found: dict[str, set[str]] = {}

    def are_enforced() -> bool:
        """Whether policies hold, which takes the network some seconds after a pod has started."""
        for place in expected:
            namespace, _, name = place.partition("/")
            start(deployed, place, CONNECT, *address)
            deployed.wait(lambda place=place: pod(place).status.phase == "Succeeded")
            log = core.read_namespaced_pod_log(name, namespace, _preload_content=False).data
            found[place] = {address[each] for each in json.loads(log)}
            core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
        return found == expected

    deployed.wait(lambda: are_enforced() or print(found))  # noqa: T201 what differs
