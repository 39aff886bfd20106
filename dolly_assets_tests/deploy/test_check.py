"""deploy/ passes its own check, and the check sees what is wrong."""

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import chart, check, instance
from dolly_assets.launchers.kubernetes.rights import Right, right_of, rights_in


@pytest.mark.parametrize("name", check.CHECKS)
@pytest.mark.slow
def test_what_is_deployed_passes(name: str) -> None:
    problems, _ = check.run(check.CHECKS[name])
    assert not problems


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Replaces text in a copy of deploy/, which is what is checked then."""
    copy = Path(shutil.copytree(check.DEPLOY, tmp_path / "deploy"))
    monkeypatch.setattr(check, "DEPLOY", copy)
    monkeypatch.setattr(check, "KUBERNETES", copy / "kubernetes")
    monkeypatch.setattr(chart, "HELM", copy / "helm")
    monkeypatch.setattr(instance, "INSTANCE", copy / "instance" / "dagster.yaml")

    def replace(file: str, text: str, by: str) -> None:
        path = copy / file
        assert text in path.read_text()
        path.write_text(path.read_text().replace(text, by))

    return replace


# By check: file, text in it, what takes its place, and what the check says then.
MISTAKES = {
    "manifests": [
        ("kubernetes/base/workers-service.yaml", "clusterIP:", "clusterIp:", "clusterIp"),
        (
            "kubernetes/base/priority.yaml",
            "scheduling.k8s.io/v1",
            "scheduling.k8s.io/v3",
            "no PriorityClass",
        ),
        (
            "kubernetes/base/accounts.yaml",
            "name: dolly-run ",
            "name: dolly-runs ",
            "dolly-run in dagster",
        ),
        ("kubernetes/prod/kustomization.yaml", "  - quota.yaml\n", "", "quota.yaml is not listed"),
        (
            "kubernetes/base/collector.yaml",
            "configMap: {name: dolly-retention}",
            "configMap: {name: dolly-keep}",
            "ConfigMap dolly-keep in dagster",
        ),
    ],
    "chart": [
        ("helm/values-prod.yaml", "maxConcurrentRuns", "maximumRuns", "maximumRuns"),
        (
            "helm/values.yaml",
            "terminationGracePeriodSeconds",
            "gracePeriodSeconds",
            "gracePeriodSeconds",
        ),
    ],
    "together": [
        ("helm/values.yaml", "port: 8080}  #", "port: 80}  #", "port 80 takes a privilege"),
        (
            "helm/values.yaml",
            "/server_info, port: 8080",
            "/server_info, port: 8081",
            "readinessProbe",
        ),
        (
            "helm/values.yaml",
            "{enabled: false}\n      podSec",
            "{enabled: true}\n      podSec",
            "runs get",
        ),
        (
            "helm/values.yaml",
            "cancelTimeoutSeconds: 2100",
            "cancelTimeoutSeconds: 180",
            "raise cancel",
        ),
    ],
    "pods": [
        (
            "helm/values.yaml",
            "readOnlyRootFilesystem: true",
            "readOnlyRootFilesystem: false",
            "values-prod.yaml: run: container dagster may write to its root file system",
        ),
        (
            "kubernetes/base/collector.yaml",
            "runAsNonRoot: true",
            "runAsNonRoot: false",
            "base/collector.yaml: dolly-collector: it may run as root",
        ),
        (
            "kubernetes/prod/pools.yaml",
            "- name: scratch",
            "- name: space",
            "scratch, which is no volume",
        ),
    ],
    "limits": [
        (
            "kubernetes/prod/quota.yaml",
            'cpu: "768"',
            'cpu: "511"',
            "prod: gpt_j_6b requests more cpu in 8 trainings on 1 nodes than the allowed 511",
        ),
        (
            "kubernetes/staging/quota.yaml",
            "default: {memory: 4Gi}",
            "max: {memory: 100Gi}",
            "staging: pythia_12b asks for 819200Mi of memory, more than the most, 100Gi",
        ),
    ],
    "paths": [
        (
            "helm/values.yaml",
            "deploy/kubernetes/base/",
            "deploy/kubernetes/basis/",
            "kubernetes/basis does",
        )
    ],
    "reports": [
        (
            "kubernetes/prod/settings.yaml",
            "https://dagster.example.com/reports ",
            "http://127.0.0.1:3001 ",
            "prod: DOLLY_REPORTS_URL=http://127.0.0.1:3001: expected an https address",
        ),
        (
            "kubernetes/examples/oauth2-proxy.yaml",
            "dolly-reports:3001/reports/",
            "dolly-reports:3001/",
            "staging: oauth2-proxy has no --upstream=http://dolly-reports:3001/reports/",
        ),
        ("kubernetes/base/reports.yaml", '"3001"]', '"3002"]', "the server does not listen"),
        (
            "kubernetes/base/reports.yaml",
            "  selector: {app.kubernetes.io/name: dolly-reports}",
            "  selector: {app.kubernetes.io/name: reports}",
            "selects no pod",
        ),
        (
            "kubernetes/base/reports.yaml",
            "app.kubernetes.io/name: oauth2-proxy",
            "app.kubernetes.io/name: anything",
            "others than oauth2-proxy may connect",
        ),
        (
            "kubernetes/base/reports.yaml",
            "      automountServiceAccountToken: false\n",
            "",
            "has a token of the cluster",
        ),
        (
            "kubernetes/base/network.yaml",
            "values: [dolly-reports]",
            "values: [reports]",
            "the policy dagster also applies",
        ),
        (
            "iam/reports.json",
            '"s3:GetObject"',
            '"s3:GetObject", "s3:PutObject"',
            "reports.json allows more than reading: s3:PutObject",
        ),
    ],
    "serving": [
        (
            "kubernetes/serving/cpu/server.yaml",
            "maxUnavailable: 0",
            "maxUnavailable: 1",
            "serving/cpu: a pod is stopped before another one is ready",
        ),
        (
            "kubernetes/serving/cpu/server.yaml",
            "terminationGracePeriodSeconds: 120",
            "terminationGracePeriodSeconds: 100",
            "serving/cpu: a pod is killed before its 110 s",
        ),
        (
            "kubernetes/serving/gpu/server.yaml",
            "sleep: {seconds: 90}",
            "sleep: {seconds: 0}",
            "serving/gpu: requests arrive at a pod that has ended",
        ),
        (
            "kubernetes/serving/gpu/server.yaml",
            "automountServiceAccountToken: false",
            "automountServiceAccountToken: true",
            "serving/gpu: dolly-serving has a token",
        ),
        (
            "kubernetes/serving/gpu/server.yaml",
            "dolly-assets/digest",
            "dolly-assets/version",
            "does not fetch what the annotation dolly-assets/digest names",
        ),
        (
            "kubernetes/serving/base/network.yaml",
            "192.0.2.0/24",
            "0.0.0.0/0",
            "lets servers connect to every address",
        ),
        (
            "kubernetes/serving/base/service.yaml",
            "selector: {app.kubernetes.io/name: dolly-serving}",
            "selector: {app.kubernetes.io/name: serving}",
            "the Service dolly-serving selects no pod",
        ),
        (
            "kubernetes/serving/base/rollout.yaml",
            "resourceNames: [dolly-serving]",
            "resourceNames: [dolly-serving, other]",
            "may change others",
        ),
        (
            "iam/serving.json",
            '"s3:GetObject"',
            '"s3:GetObject", "s3:PutObject"',
            "serving.json allows more than reading: s3:PutObject",
        ),
    ],
    "instance": [
        ("instance/dagster.yaml", "max_retries: 3", "max_retries: 4", "run_retries differs"),
        ("instance/dagster.yaml", "upload_interval", "upload_every", "upload_every"),
    ],
    "settings": [
        (
            "kubernetes/prod/settings.yaml",
            "DOLLY_STORE",
            "DOLLY_SHOP",
            "nothing reads DOLLY_SHOP",
        )
    ],
    "compose": [
        ("compose/compose.yaml", "postgres:15.14-bookworm", "postgres", "has no version"),
        ("compose/compose.yaml", "127.0.0.1:3000", "3000", "open to the network"),
        (
            "compose/compose.yaml",
            "AWS_SECRET_ACCESS_KEY: ${S3_PASSWORD",
            "AWS_SECRET_ACCESS_KEY: ${S3_ROOT_PASSWORD",
            "code has the keys of the S3 server's administrator",
        ),
        ("compose/s3-policy.json", "locks/commit-*", "locks/*", "differs from iam/run.json"),
        ("compose/compose.yaml", "../instance/dagster.yaml", "./dagster.yaml", "does not exist"),
    ],
    "rights": [
        (
            "kubernetes/base/roles.yaml",
            "[create, delete, list]",
            "[create, list]",
            "does not allow a right that is used",
        ),
        (
            "kubernetes/base/roles.yaml",
            "verbs: [delete, list]",
            "verbs: [delete, list, patch]",
            "allows an unused right",
        ),
    ],
    "images": [
        ("docker/worker.Dockerfile", "USER 10001:10001", "USER root", "other than root"),
        (
            "docker/orchestrator.Dockerfile",
            "--no-deps --require-hashes",
            "--no-deps",
            "requirements/orchestrator.txt checks no hashes",
        ),
    ],
    "iam": [
        ("iam/worker.json", "s3:GetObject", "s3:*", "not a single S3 action"),
        (
            "iam/run.json",
            "arn:aws:s3:::dolly-artifacts-prod/models/*",
            "*",
            "more than a folder of a bucket",
        ),
        (
            "iam/collector.json",
            "models/manifests/*.dropped",
            "models/manifests/*",
            "NoteWhatIsRemoved lets published content be overwritten",
        ),
        ("iam/signer.json", "models/signatures/*", "models/seals/*", "write signatures/"),
        ("iam/run.json", '"Condition": {', '"Conditions": {', "Publish lets"),
    ],
}

# A key of the chart that is wrong hides what is wrong together.
CHECKED_BY = {"together": "chart"}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.slow
def test_what_is_wrong_is_said(broken: Callable[[str, str, str], None], name: str) -> None:
    for file, text, by, _ in MISTAKES[name]:
        broken(file, text, by)
    problems, _ = check.run(check.CHECKS[CHECKED_BY.get(name, name)])
    for *_, said in MISTAKES[name]:
        assert any(said in problem for problem in problems), (said, problems)


def test_a_request_of_the_code_is_the_right_that_the_api_server_asks_for() -> None:
    """Against the table in https://kubernetes.io/docs/reference/access-authn-authz/authorization/."""
    assert right_of("create_namespaced_job") == Right("create", "batch", "jobs")
    assert right_of("read_namespaced_pod_log") == Right("get", "", "pods/log")
    assert right_of("delete_collection_namespaced_pod") == Right("deletecollection", "", "pods")
    assert right_of("replace_namespaced_job_status") == Right("update", "batch", "jobs/status")
    assert right_of("read_priority_class") == Right("get", "scheduling.k8s.io", "priorityclasses")
    assert right_of("read_file") is None


def test_a_right_is_read_from_a_path_that_the_client_has_no_method_for() -> None:
    code = (
        'api.call_api("/apis/a.io/v1beta1/namespaces/{namespace}/things/{name}/parts", "GET", x=1)'
    )
    assert rights_in(ast.parse(code)) == {Right("get", "a.io", "things/parts")}
