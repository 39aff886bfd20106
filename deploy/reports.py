"""The report server of a deployment: what leads to it, and what it may do, checked together.

Each part is right alone; together they keep it behind the login of the UI.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAME = "dolly-reports"
PROXY = "oauth2-proxy"
READS = {"s3:ListBucket", "s3:GetObject"}
LABEL = "app.kubernetes.io/name"

Objects = dict[tuple[str, str], dict[str, Any]]


def problems_of(objects: Iterable[dict[str, Any]], policy: Path) -> Iterator[str]:
    """Yield what is wrong with the report server of an environment.

    Args:
        objects: The environment's objects, with those that all have, and the examples.
        policy: The file of the server's IAM policy.
    """
    found: Objects = {
        (each["kind"], each["metadata"]["name"]): each
        for each in objects
        if each.get("metadata", {}).get("namespace") == "dagster"
    }
    yield from _links(found)
    yield from _network(found)
    actions = {
        action
        for statement in json.loads(policy.read_text())["Statement"]
        for action in statement["Action"]
    }
    if more := actions - READS:
        yield f"{policy.name} allows more than reading: {', '.join(sorted(more))}"


def _links(found: Objects) -> Iterator[str]:
    """Yield where the way from a link's address to the server is broken."""
    url = found["ConfigMap", "dolly-settings"]["data"].get("DOLLY_REPORTS_URL", "")
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or not parts.path.strip("/"):
        yield f"DOLLY_REPORTS_URL={url}: expected an https address with a path, behind the login"
    service = found["Service", NAME]
    [port] = (each["port"] for each in service["spec"]["ports"])
    upstream = f"--upstream=http://{NAME}:{port}{parts.path.rstrip('/')}/"
    if upstream not in _container(found, PROXY)["args"]:
        yield f"{PROXY} has no {upstream}"
    server = _container(found, NAME)
    if str(port) not in server["command"]:
        yield f"the Service {NAME} has port {port}, on which the server does not listen"
    template = found["Deployment", NAME]["spec"]["template"]
    if service["spec"]["selector"].items() - template["metadata"]["labels"].items():
        yield f"the Service {NAME} selects no pod of the server"


def _network(found: Objects) -> Iterator[str]:
    """Yield who else than the proxy reaches the server."""
    spec = found["NetworkPolicy", NAME]["spec"]
    proxy_only = [{"podSelector": {"matchLabels": {LABEL: PROXY}}}]
    if [rule["from"] for rule in spec["ingress"]] != [proxy_only]:
        yield f"others than {PROXY} may connect to {NAME}"
    for (kind, name), each in found.items():
        selector = each["spec"].get("podSelector") if kind == "NetworkPolicy" else None
        if selector is not None and name != NAME and _selects(selector, NAME):
            yield f"the policy {name} also applies to {NAME}: policies add up"
    account = found["Deployment", NAME]["spec"]["template"]["spec"]
    if account.get("automountServiceAccountToken") is not False:
        yield f"{NAME} has a token of the cluster"


def _selects(selector: dict[str, Any], name: str) -> bool:
    """Return whether a selector applies to the pods whose one label is this name."""
    is_labelled = all(
        (key, value) == (LABEL, name) for key, value in selector.get("matchLabels", {}).items()
    )
    is_left_out = any(
        each["key"] == LABEL and each["operator"] == "NotIn" and name in each["values"]
        for each in selector.get("matchExpressions", [])
    )
    return is_labelled and not is_left_out


def _container(found: Objects, name: str) -> dict[str, Any]:
    [container] = found["Deployment", name]["spec"]["template"]["spec"]["containers"]
    return container
