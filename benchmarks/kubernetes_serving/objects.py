"""The objects of deploy/kubernetes/serving/cpu with a cluster's own addresses, and a pod beside."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.kubernetes_deployed.objects import Object, secret, with_image
from deploy import chart, check
from deploy.serving import NAME
from dolly_assets.core.mappings import merged

TOKEN = "a-token-of-32-characters-for-tests"
SECURED = chart.values_of("staging").dagster_webserver
API_TEXT = '"port": 6443'
STORE_TEXT = "192.0.2.0/24"  # what deploy/ has in the place of the store's address


def manifests(
    image: str, variables: Mapping[str, str], store_address: str, api_port: int, champion: str
) -> list[Object]:
    """Return what is applied, the namespace first.

    Args:
        image: The image in the place of ours.
        variables: Added to the servers'.
        store_address: The only address that they may reach.
        api_port: Where the cluster's API listens, behind its Service.
        champion: `FAMILY/DATASET` of the model.
    """
    family, dataset = champion.split("/")
    names = {
        STORE_TEXT: f"{store_address}/32",
        API_TEXT: f'"port": {api_port}',
        "demo/champion_model/demo": f"{family}/champion_model/{dataset}",
        "demo/demo/champion": f"{champion}/champion",
    }
    found = []
    for folder in ("serving/base", "serving/cpu"):
        for _, each in check.objects(folder):
            if each["kind"] != "Kustomization":
                found.append(_renamed(with_image(each, image), names))
    [settings] = (each for each in found if each["kind"] == "ConfigMap")
    settings["data"] |= variables
    keys = {"AWS_ACCESS_KEY_ID": "serving", "AWS_SECRET_ACCESS_KEY": "secret"}
    found.append(secret(NAME, "dolly-store", keys))
    found.append(secret(NAME, "dolly-serving-token", {"DOLLY_SERVE_TOKEN": TOKEN}))
    return sorted(found, key=lambda each: each["kind"] != "Namespace")


def _renamed(each: Object, names: Mapping[str, str]) -> Object:
    text = json.dumps(each)
    for ours, theirs in names.items():
        text = text.replace(ours, theirs)
    return json.loads(text)


def pod(place: str, image: str, env: Mapping[str, str], *command: str) -> Object:
    """Return a pod `NAMESPACE/NAME` that PodSecurity admits, which runs Python."""
    namespace, _, name = place.partition("/")
    container = {
        "name": "pod",
        "image": image,
        "command": [sys.executable, *command],
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "securityContext": SECURED.security_context,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": SECURED.pod_security_context,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    metadata = {"namespace": namespace, "name": name, "labels": {"app.kubernetes.io/name": name}}
    return merged({"apiVersion": "v1", "kind": "Pod"}, {"metadata": metadata, "spec": spec})
