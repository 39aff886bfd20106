"""The objects of a deployment: those of deploy/kubernetes, and the chart's from our values.

The chart is not available offline. Its Deployments are made here as its templates make them, as far
as our values determine them, without the init containers that wait for database and code location.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from deploy import chart, check
from dolly_assets.core.mappings import merged

ENVIRONMENT = "prod"
DAGSTER, TRAINING = "dagster", "dolly-training"
WEBSERVER, DAEMON = "dagster-webserver", "dagster-daemon"
WORKSPACE = "dagster-workspace"
IMAGES = ("registry.example.com/dolly/orchestrator:", "registry.example.com/dolly/worker:")

Object = dict[str, Any]


def manifests(image: str, overrides: Mapping[tuple[str, str], Object]) -> list[Object]:
    """Return the objects of deploy/kubernetes, namespaces first.

    Args:
        image: The image in the place of ours.
        overrides: Merged over objects, by kind and name.
    """
    found: list[Object] = []
    for folder in ("base", ENVIRONMENT):
        for _, each in check.objects(folder):
            if each["kind"] != "Kustomization":
                key = each["kind"], each["metadata"]["name"]
                found.append(merged(with_image(each, image), overrides.get(key, {})))
    return sorted(found, key=lambda each: each["kind"] != "Namespace")


def with_image(each: Object, image: str) -> Object:
    """Return an object with another image, also where a ConfigMap's text names ours."""
    text = yaml.safe_dump(each)
    version = chart.values_of(ENVIRONMENT).dagster_webserver.image.tag
    for ours in IMAGES:
        text = text.replace(ours + version, image)
    return yaml.safe_load(text)


def secrets(keys: Mapping[tuple[str, str], str], database_password: str) -> Iterator[Object]:
    """Yield the Secrets of the example: the store's by namespace and name, and the database's."""
    for (namespace, name), user in keys.items():
        data = {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": "secret"}
        yield secret(namespace, name, data)
    yield secret(DAGSTER, "dagster-postgresql", {"postgresql-password": database_password})


def secret(namespace: str, name: str, data: Mapping[str, str]) -> Object:
    """Return a Secret."""
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {**data}}


def of_chart(image: str, database_host: str, instance: Object) -> Iterator[Object]:
    """Yield what the chart makes: ConfigMaps, Deployments and Services.

    Args:
        image: The image in the place of ours.
        database_host: Address of Postgres.
        instance: Merged over the dagster.yaml.
    """
    values = chart.values_of(ENVIRONMENT)
    values.postgresql.postgresql_host = database_host
    [location] = values.dagster_user_deployments.deployments
    content = merged(chart.dagster_yaml(values, DAGSTER), instance)
    server = {"host": location.name, "port": location.port, "location_name": location.name}
    workspace = {"load_from": [{"grpc_server": server}]}
    yield _config_map(chart.INSTANCE_CONFIG_MAP, "dagster.yaml", content)
    yield _config_map(WORKSPACE, "workspace.yaml", workspace)
    file = "/dagster-workspace/workspace.yaml"
    port = str(values.dagster_webserver.service.port)
    webserver = ["dagster-webserver", "-h", "0.0.0.0", "-p", port, "-w", file]
    account, runs = (
        each.service_account.name for each in (values, values.dagster_user_deployments)
    )
    yield _deployment(WEBSERVER, values.dagster_webserver, image, webserver, account)
    daemon = ["dagster-daemon", "run", "-w", file]
    yield _deployment(DAEMON, values.dagster_daemon, image, daemon, account)
    served = ["-h", "0.0.0.0", "-p", str(location.port), *location.code_server_args]
    code = ["dagster", "code-server", "start", *served]
    yield _deployment(location.name, location, image, code, runs)
    for name, number in ((WEBSERVER, int(port)), (location.name, location.port)):
        ports = [{"port": number, "targetPort": number}]
        metadata = {"namespace": DAGSTER, "name": name}
        spec = {"selector": {"app.kubernetes.io/name": name}, "ports": ports}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _config_map(name: str, file: str, content: Any) -> Object:
    metadata = {"namespace": DAGSTER, "name": name}
    data = {file: yaml.safe_dump(content)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _deployment(name: str, part: chart.Pod, image: str, command: list[str], account: str) -> Object:
    """Return a Deployment of one pod with dagster.yaml, the workspace and the database's Secret."""
    home = chart.values_of(ENVIRONMENT).global_.dagster_home
    mounts = [
        {
            "name": "dagster-instance",
            "mountPath": f"{home}/dagster.yaml",
            "subPath": "dagster.yaml",
        },
        {"name": WORKSPACE, "mountPath": "/dagster-workspace"},
    ]
    volumes = [
        {"name": "dagster-instance", "configMap": {"name": chart.INSTANCE_CONFIG_MAP}},
        {"name": WORKSPACE, "configMap": {"name": WORKSPACE}},
    ]
    secret = {"name": "dagster-postgresql", "key": "postgresql-password"}
    env = [
        {"name": "DAGSTER_HOME", "value": home},
        {"name": "DAGSTER_PG_PASSWORD", "valueFrom": {"secretKeyRef": secret}},
        {"name": "DAGSTER_CURRENT_IMAGE", "value": image},
    ]
    container = {
        "name": name,
        "image": image,
        "command": command,
        "env": env,
        "envFrom": [
            *({"configMapRef": {"name": each.name}} for each in part.env_config_maps),
            *({"secretRef": {"name": each.name}} for each in part.env_secrets),
        ],
        "securityContext": part.security_context,
        "resources": part.resources,
        "volumeMounts": [*part.volume_mounts, *mounts],
    }
    pod = {
        "serviceAccountName": account,
        "securityContext": part.pod_security_context,
        "containers": [container],
        "volumes": [*part.volumes, *volumes],
    }
    labels = {"app.kubernetes.io/name": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": DAGSTER, "name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
