"""The servers of models in a cluster: that a rollout loses no request, and what they may reach.

Each object is right alone; together they keep requests alive and strangers out.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deploy import pods
from deploy.reports import READS
from dolly_assets.pipeline.rollout import ANNOTATION

NAME = "dolly-serving"  # of the namespace, the Deployment, its account, Service and policy
ROLLOUT = "dolly-rollout"
VARIANTS = ("cpu", "gpu")
EVERYWHERE = "0.0.0.0/0"

Objects = dict[tuple[str, str], dict[str, Any]]


def dangling(objects: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield what pods refer to and is not there."""
    there = list(objects)
    names = {(each["kind"], each["metadata"]["name"]) for each in there}
    for each in there:
        for kind, name in pods.references_of(pods.pod_of(each) or {"containers": []}):
            if (kind, name) not in names:
                yield f"{kind} {name} is referred to and does not exist"


def problems_of(objects: Iterable[dict[str, Any]], policy: Path) -> Iterator[str]:
    """Yield what is wrong with one way of serving.

    Args:
        objects: All objects of its namespace.
        policy: The file of the servers' IAM policy.
    """
    found: Objects = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    yield from _requests(found)
    yield from _network(found)
    yield from _rollout(found)
    actions = {
        action
        for statement in json.loads(policy.read_text())["Statement"]
        for action in statement["Action"]
    }
    if more := actions - READS:
        yield f"{policy.name} allows more than reading: {', '.join(sorted(more))}"


def _requests(found: Objects) -> Iterator[str]:
    """Yield how a request could be lost while pods are replaced."""
    deployment = found["Deployment", NAME]["spec"]
    rolling = deployment["strategy"].get("rollingUpdate", {})
    if (rolling.get("maxUnavailable"), rolling.get("maxSurge")) != (0, 1):
        yield "a pod is stopped before another one is ready: expected maxUnavailable 0, maxSurge 1"
    template = deployment["template"]
    [server] = template["spec"]["containers"]
    if "readinessProbe" not in server:
        yield "requests arrive before the model is loaded: expected a readinessProbe"
    waits = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if not waits:
        yield "requests arrive at a pod that has ended: expected preStop to sleep some seconds"
    grace = waits + _grace(server.get("command", []))
    if grace > template["spec"].get("terminationGracePeriodSeconds", 30):
        yield f"a pod is killed before its {grace} s: raise terminationGracePeriodSeconds"
    selector = found["Service", NAME]["spec"]["selector"].items()
    budget = found["PodDisruptionBudget", NAME]["spec"]["selector"]["matchLabels"].items()
    for kind, labels in (("Service", selector), ("PodDisruptionBudget", budget)):
        if labels - template["metadata"]["labels"].items():
            yield f"the {kind} {NAME} selects no pod of the server"


def _grace(command: list[str]) -> int:
    """Return how many seconds running answers have once a server is asked to end."""
    return int(command[command.index("--grace") + 1]) if "--grace" in command else 0


def _network(found: Objects) -> Iterator[str]:
    """Yield what else a server reaches, or may do."""
    for rule in found["NetworkPolicy", NAME]["spec"]["egress"]:
        if any(to.get("ipBlock", {}).get("cidr") == EVERYWHERE for to in rule.get("to", [{}])):
            yield f"the policy {NAME} lets servers connect to every address"
    if found["Deployment", NAME]["spec"]["template"]["spec"].get(TOKEN) is not False:
        yield f"{NAME} has a token of the cluster"


def _rollout(found: Objects) -> Iterator[str]:
    """Yield why a promotion would not replace the pods."""
    [container] = (pods.pod_of(found["CronJob", ROLLOUT]) or {})["containers"]
    if container["args"][1:] != ["--deployment", NAME, "--namespace", NAME]:
        yield f"{ROLLOUT} does not restart the Deployment {NAME}"
    for rule in found["Role", "rollout"]["rules"]:
        if rule.get("resourceNames") != [NAME]:
            yield f"{ROLLOUT} may change others than the Deployment {NAME}"
    template = found["Deployment", NAME]["spec"]["template"]["spec"]
    for init in template.get("initContainers", []):
        paths = [each.get("valueFrom", {}).get("fieldRef", {}) for each in init.get("env", [])]
        if {"fieldPath": f"metadata.annotations['{ANNOTATION}']"} not in paths:
            yield f"the init container does not fetch what the annotation {ANNOTATION} names"


TOKEN = "automountServiceAccountToken"
