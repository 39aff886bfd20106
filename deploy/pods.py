"""What a pod of deploy/ must be: PodSecurity `restricted`, read-only, and whole.

It knows pod specs as Kubernetes writes them in YAML, and neither the chart nor a cluster.
"""

from collections.abc import Iterator
from typing import Any

TEMPLATES = {"Deployment", "Job", "CronJob"}
# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pod_of(each: dict[str, Any]) -> dict[str, Any] | None:
    """Return the pod spec in an object; None if it creates no pods."""
    if each["kind"] not in TEMPLATES:
        return None
    spec = each["spec"]
    job = spec["jobTemplate"]["spec"] if each["kind"] == "CronJob" else spec
    return job["template"]["spec"]


def problems_of(pod: dict[str, Any]) -> Iterator[str]:
    """Yield what PodSecurity `restricted` refuses, and what is writable or not there."""
    whole = pod.get("securityContext", {})
    if whole.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is not RuntimeDefault"
    if not whole.get("runAsNonRoot") or not whole.get("runAsUser"):
        yield "it may run as root"
    volumes = {volume["name"]: volume.keys() - {"name"} for volume in pod.get("volumes", [])}
    for name, kinds in volumes.items():
        yield from (f"volume {name} is a {kind}" for kind in sorted(kinds - VOLUMES))
    for container in _containers(pod):
        name, own = container["name"], container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"container {name} may gain privileges"
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"container {name} keeps capabilities"
        if not own.get("readOnlyRootFilesystem"):
            yield f"container {name} may write to its root file system"
        if not container.get("resources", {}).get("limits", {}).get("memory"):
            yield f"container {name} has no limit of memory"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"container {name} mounts {mount['name']}, which is no volume"


def references_of(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield kind and name of what a pod refers to in its namespace, unless that is optional."""
    if "serviceAccountName" in pod:
        yield "ServiceAccount", pod["serviceAccountName"]
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
    for container in _containers(pod):
        values = [item.get("valueFrom", {}) for item in container.get("env", [])]
        for source in [*container.get("envFrom", []), *values]:
            for key, kind in KINDS.items():
                if key in source and not source[key].get("optional"):
                    yield kind, source[key]["name"]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


KINDS = {
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "secretRef": "Secret",
    "secretKeyRef": "Secret",
}
