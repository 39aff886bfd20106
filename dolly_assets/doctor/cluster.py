"""Checks of a cluster for what Jobs of workers need: permissions, Service, GPUs, limits, Secrets.

It uses the account of the user who runs it, whose permissions may differ from those of runs. It
starts nothing.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dolly_assets.doctor.check_result import CheckResult
from dolly_assets.doctor.limits import over_limits, over_quota, quantity
from dolly_assets.family import ModelFamily
from dolly_assets.launchers.kubernetes.api import (
    FORBIDDEN,
    NOT_FOUND,
    TIMEOUT,
    explanation,
    patiently,
)
from dolly_assets.launchers.kubernetes.connection import connect
from dolly_assets.launchers.kubernetes.job import build_check
from dolly_assets.launchers.kubernetes.rights import HERE, Right, rights_of_folder
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

OLDEST = (1, 29)  # `backoffLimitPerIndex` and `podReplacementPolicy` are on by default
ROLES = "deploy/kubernetes/base/roles.yaml"
SERVICE = "deploy/kubernetes/base/workers-service.yaml"


def check_cluster(
    settings: KubernetesSettings, families: Sequence[ModelFamily]
) -> Iterator[CheckResult]:
    """Check everything that can be checked without running anything.

    Raises:
        ConfigurationError: There is no connection to a cluster, or a configuration has a key that
            Kubernetes does not know.
        ApiException: The cluster answers with an error.
        WorkerError: The cluster does not answer.
    """
    from kubernetes import client

    connection = connect(settings.context)
    version = patiently(lambda: client.VersionApi(connection).get_code(_request_timeout=TIMEOUT))
    yield _version(version, connection.configuration.host)
    yield from _rights(connection, settings.namespace)
    core = client.CoreV1Api(connection)
    yield _service(core, settings)
    yield from _gpus(core, settings, families)
    yield from _quota(core, settings, families)
    yield from _limits(core, settings, families)
    yield from _secrets(core, settings, families)


def _version(version: Any, host: str) -> CheckResult:
    """Check that the cluster knows all fields of our Jobs; an older one would ignore them.

    Without `backoffLimitPerIndex`, a Job would restart without end.
    """
    # Providers write `29+`.
    found = tuple(int(re.sub(r"\D", "", part) or 0) for part in (version.major, version.minor))
    text = f"Kubernetes {version.git_version} at {host}"
    if found < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return CheckResult("MISSING", "cluster", f"{text}: Jobs need {oldest} or newer, upgrade it")
    return CheckResult("ok", "cluster", text)


def _rights(connection: "ApiClient", namespace: str) -> Iterator[CheckResult]:
    needed = sorted(rights_of_folder(HERE))
    denied = [right for right in needed if not _may(connection, namespace, right)]
    for right in denied:
        text = (
            f"this account may not {right} in {namespace}: bind the Role `trainings` of {ROLES} "
            "to it"
        )
        yield CheckResult("MISSING", "permission", text)
    if not denied:
        yield CheckResult("ok", "permissions", f"all {len(needed)} that runs need in {namespace}")


def _may(connection: "ApiClient", namespace: str, right: Right) -> bool:
    from kubernetes import client

    resource, _, subresource = right.resource.partition("/")
    attributes = client.V1ResourceAttributes(
        namespace=namespace,
        verb=right.verb,
        group=right.group,
        resource=resource,
        subresource=subresource or None,
    )
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    )
    ask = client.AuthorizationV1Api(connection).create_self_subject_access_review
    return bool(patiently(lambda: ask(review, _request_timeout=TIMEOUT)).status.allowed)


def _service(core: Any, settings: KubernetesSettings) -> CheckResult:
    what = f"Service {settings.service}"
    found = _asked(
        lambda: core.read_namespaced_service(
            settings.service, settings.namespace, _request_timeout=TIMEOUT
        )
    )
    if isinstance(found, _Denied):
        return CheckResult("unknown", what, found.text)
    if found is None:
        return CheckResult(
            "MISSING",
            what,
            f"not in {settings.namespace}, but pods that train together need it: apply {SERVICE}",
        )
    if found.spec.cluster_ip != "None":
        return CheckResult(
            "MISSING", what, f"has a cluster IP, so that pods have no DNS names: apply {SERVICE}"
        )
    return CheckResult("ok", what, "headless")


def _gpus(
    core: Any, settings: KubernetesSettings, families: Sequence[ModelFamily]
) -> Iterator[CheckResult]:
    """Compare the GPUs of each node with what families request on one node."""
    needed = _needed_gpus(settings, families)
    nodes = _asked(lambda: core.list_node(_request_timeout=TIMEOUT))
    if isinstance(nodes, _Denied):
        yield CheckResult("unknown", "GPUs", f"{nodes.text}; a run that waits for GPUs logs that")
        return
    for resource, (most, family) in needed.items():
        offered = [
            quantity((node.status.allocatable or {}).get(resource, "0")) for node in nodes.items
        ]
        have = [int(count) for count in offered if count]
        listed = f"{sum(have)} {resource} on {len(have)} of {len(nodes.items)} nodes"
        if most <= max(have, default=0):
            yield CheckResult("ok", "GPUs", listed)
        else:
            text = (
                f"{listed}, but {family.name} requests {most} on one node: install the device "
                "plugin or GPU operator, add nodes, or request fewer; an autoscaler may still add "
                "nodes"
            )
            yield CheckResult("MISSING", "GPUs", text)


def _needed_gpus(
    settings: KubernetesSettings, families: Sequence[ModelFamily]
) -> dict[str, tuple[int, ModelFamily]]:
    """Return by resource the most that a family requests on one node, and that family."""
    found: dict[str, tuple[int, ModelFamily]] = {}
    for family in families:
        resource = family.compute.kubernetes.gpu_resource or settings.gpu_resource
        if family.compute.gpus > found.get(resource, (0, family))[0]:
            found[resource] = (family.compute.gpus, family)
    return found


def _quota(
    core: Any, settings: KubernetesSettings, families: Sequence[ModelFamily]
) -> Iterator[CheckResult]:
    quotas = _asked(
        lambda: core.list_namespaced_resource_quota(settings.namespace, _request_timeout=TIMEOUT)
    )
    if isinstance(quotas, _Denied):
        yield CheckResult("unknown", "quota", quotas.text)
        return
    for quota in quotas.items:
        hard, used = quota.status.hard or quota.spec.hard or {}, quota.status.used or {}
        listed = ", ".join(
            f"{used.get(key, '0')} of {value} {key}" for key, value in sorted(hard.items())
        )
        short = [text for family in families if (text := over_quota(family, settings, hard))]
        for text in short:
            yield CheckResult(
                "MISSING", f"quota {quota.metadata.name}", f"{text}: raise it, or request less"
            )
        if not short:
            yield CheckResult("ok", f"quota {quota.metadata.name}", f"{listed} used")
    if not quotas.items:
        yield CheckResult("ok", "quota", f"none in {settings.namespace}")


def _limits(
    core: Any, settings: KubernetesSettings, families: Sequence[ModelFamily]
) -> Iterator[CheckResult]:
    """Check that no LimitRange refuses a family's pods: their Jobs would wait for ever."""
    found = _asked(
        lambda: core.list_namespaced_limit_range(settings.namespace, _request_timeout=TIMEOUT)
    )
    if isinstance(found, _Denied):
        yield CheckResult("unknown", "LimitRange", found.text)
        return
    for item in found.items:
        what = f"LimitRange {item.metadata.name}"
        limits = core.api_client.sanitize_for_serialization(item.spec)["limits"]
        refused = [text for family in families for text in over_limits(family, settings, limits)]
        for text in refused:
            yield CheckResult("MISSING", what, f"{text}: change it, or what the family requests")
        if not refused:
            yield CheckResult("ok", what, "accepts the pods of every family")
    if not found.items:
        yield CheckResult("ok", "LimitRange", f"none in {settings.namespace}")


def _secrets(
    core: Any, settings: KubernetesSettings, families: Sequence[ModelFamily]
) -> Iterator[CheckResult]:
    """Check the Secrets that the Jobs of the deployment and of its families refer to."""
    named: dict[str, bool] = {}
    for family in (None, *families):
        for name, is_optional in secrets_of(
            build_check(settings, "doctor", [], family).spec.template.spec
        ):
            named[name] = named.get(name, True) and is_optional
    for name, is_optional in sorted(named.items()):
        found = _asked(
            lambda name=name: core.read_namespaced_secret(
                name, settings.namespace, _request_timeout=TIMEOUT
            )
        )
        if isinstance(found, _Denied):
            yield CheckResult(
                "unknown",
                f"Secret {name}",
                f"{found.text}; a run whose pods wait for it logs that",
            )
        elif found is not None:
            yield CheckResult(
                "ok", f"Secret {name}", ", ".join(sorted(found.data or {})) or "empty"
            )
        elif is_optional:
            yield CheckResult("ok", f"Secret {name}", "does not exist, and is optional")
        else:
            text = (
                f"not in {settings.namespace}, but Jobs refer to it: see "
                "deploy/kubernetes/examples/secrets.yaml"
            )
            yield CheckResult("MISSING", f"Secret {name}", text)


def secrets_of(pod: Any) -> Iterator[tuple[str, bool]]:
    """Yield the Secrets that a pod's spec refers to, and whether each is optional."""
    for reference in pod.image_pull_secrets or []:
        yield reference.name, False
    for volume in pod.volumes or []:
        if volume.secret:
            yield volume.secret.secret_name, bool(volume.secret.optional)
    for container in pod.containers:
        references = [source.secret_ref for source in container.env_from or []]
        references += [
            item.value_from.secret_key_ref for item in container.env or [] if item.value_from
        ]
        yield from ((each.name, bool(each.optional)) for each in references if each)


class _Denied:
    """The answer to a request that this account may not make."""

    def __init__(self, error: "ApiException") -> None:
        self.text = f"not visible to this account ({explanation(error)})"


def _asked(request: Any) -> Any:
    """Return the answer to a request; None if the object does not exist, `_Denied` if forbidden."""
    from kubernetes.client import ApiException

    try:
        return patiently(request)
    except ApiException as error:
        if error.status in FORBIDDEN:
            return _Denied(error)
        if error.status == NOT_FOUND:
            return None
        raise
