"""Restarts a Deployment that serves a model when another one is in production.

Knows the digest and the Deployment, and neither the store nor what the pods do with it.
"""

from typing import Any

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.text import one_line
from dolly_assets.launchers.kubernetes.connection import ERROR_LENGTH, connect, no_answer
from dolly_assets.launchers.kubernetes.job import PREFIX

ANNOTATION = f"{PREFIX}digest"
"""Of the pod template: pods read from it which model they serve. A change replaces the pods."""
TIMEOUT = (10, 30)  # to connect, to receive something


def restart_if_changed(
    namespace: str, deployment: str, digest: str, context: str | None = None
) -> str | None:
    """Write a digest into the pod template of a Deployment, unless it is there.

    Args:
        namespace: Namespace of the Deployment.
        deployment: Its name.
        digest: Of what its pods are to serve.
        context: As in `connect`.

    Returns:
        The digest that was there before, empty if there was none; None if nothing has changed.

    Raises:
        ConfigurationError: There is no such Deployment, or it may not be read or patched.
    """
    from kubernetes import client
    from urllib3.exceptions import HTTPError

    apps: Any = client.AppsV1Api(connect(context))
    patch = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: digest}}}}}
    where = {"name": deployment, "namespace": namespace, "_request_timeout": TIMEOUT}
    try:
        found = apps.read_namespaced_deployment(**where)
        before = (found.spec.template.metadata.annotations or {}).get(ANNOTATION, "")
        if before == digest:
            return None
        apps.patch_namespaced_deployment(body=patch, **where)
    except client.ApiException as error:
        raise ConfigurationError(
            f"the Deployment {deployment} in {namespace} cannot be read and patched: "
            f"{one_line(error.reason or error, ERROR_LENGTH)} ({error.status}): check --deployment "
            "and --namespace, and the Role of this account"
        ) from error
    except (HTTPError, OSError) as error:
        raise ConfigurationError(
            f"Kubernetes does not answer: {no_answer(error)}; in a cluster, the network policy of "
            "this pod must allow the API server's own address and port, not those of its Service"
        ) from error
    return before
