"""The connection to a cluster: its address and credentials, read again when they are out of date.

It knows kubeconfigs and pods' accounts, and no request.
"""

import contextlib
import os
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.text import one_line
from dolly_assets.core.urls import connection_failure

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

UNAUTHORIZED = 401
ERROR_LENGTH = 300  # characters of an error that are shown


def connect(context: str | None) -> "ApiClient":
    """Return a connection to a cluster.

    Args:
        context: A context of the kubeconfig. Without one, it is the cluster of the pod that this
            runs in, if any, else the current context.

    Raises:
        ConfigurationError: There is no such context, or neither a kubeconfig nor a pod's account.
    """
    from kubernetes import client, config

    try:
        configuration = client.Configuration()
        _read_configuration(configuration, context)
    except config.ConfigException as error:
        raise ConfigurationError(
            f"cannot connect to a Kubernetes cluster: {one_line(error, ERROR_LENGTH)}; set "
            "KUBECONFIG"
        ) from error
    connection = client.ApiClient(configuration)
    _renew_credentials(connection, context)
    return connection


def _read_configuration(configuration: Any, context: str | None) -> None:
    """Read address and credentials of a cluster."""
    from kubernetes import config

    if context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(client_configuration=configuration)
        return
    # The client reads KUBECONFIG when it is imported, and not again.
    file = os.environ.get("KUBECONFIG")
    config.load_kube_config(file, context, client_configuration=configuration)


def _renew_credentials(connection: Any, context: str | None) -> None:
    """Have a connection read its credentials again when the cluster does not accept them.

    A token in a kubeconfig may expire, and be replaced, while a training runs. The client reads it
    once.
    """
    from kubernetes.client import ApiException

    request = connection.call_api

    def call_api(*arguments: Any, **options: Any) -> Any:
        try:
            return request(*arguments, **options)
        except ApiException as error:
            if error.status != UNAUTHORIZED:
                raise
            before = dict(connection.configuration.api_key)
            with contextlib.suppress(Exception):  # what the cluster has answered is to be reported
                _read_configuration(connection.configuration, context)
            if connection.configuration.api_key == before:
                raise
        return request(*arguments, **options)

    connection.call_api = call_api


def no_answer(error: Exception) -> str:
    """Return on one line why a cluster does not answer, without what urllib3 says around it."""
    reason = getattr(error, "reason", None) or error
    pool = getattr(error, "pool", None)
    text = connection_failure(reason, ERROR_LENGTH)
    return f"{pool.host}:{pool.port}: {text}" if pool is not None else text
