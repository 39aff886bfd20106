"""The requests to the Kubernetes API, repeated while it is busy or unreachable.

It knows nothing of training. The requests in this module determine the Roles that a deployment
needs.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ConfigurationError, WorkerError
from dolly_assets.core.text import one_line
from dolly_assets.launchers.kubernetes.pods import Event, Job

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

PATIENCE_SECONDS = 300.0
RETRY_SECONDS = (0.2, 10.0)  # the first wait, the longest wait
TIMEOUT = (10, 90)  # to connect, to receive something
BUSY = {408, 429, 500, 502, 503, 504}
FORBIDDEN = {401, 403}
NOT_FOUND, CONFLICT, GONE = 404, 409, 410
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
        if context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            configuration = client.Configuration()
            config.load_incluster_config(client_configuration=configuration)
            return client.ApiClient(configuration)
        # The client reads KUBECONFIG when it is imported, and not again.
        return config.new_client_from_config(os.environ.get("KUBECONFIG"), context)
    except config.ConfigException as error:
        raise ConfigurationError(
            f"cannot connect to a Kubernetes cluster: {one_line(error, ERROR_LENGTH)}; set "
            "KUBECONFIG"
        ) from error


class Api:
    """One namespace of a cluster.

    Args:
        namespace: The namespace.
        context: As in `connect`.
    """

    def __init__(self, namespace: str, context: str | None = None) -> None:
        from kubernetes import client

        connection = connect(context)
        self.namespace = namespace
        self._batch, self._core = client.BatchV1Api(connection), client.CoreV1Api(connection)

    def create_job(self, job: Job) -> bool:
        """Create a Job.

        Returns:
            False if a Job of that name already exists, perhaps by a request whose answer was lost.

        Raises:
            WorkerError: The cluster rejects it (permissions, policy, quota); the message has the
                reason.
        """
        from kubernetes.client import ApiException

        try:
            patiently(
                lambda: self._batch.create_namespaced_job(
                    self.namespace, job, _request_timeout=TIMEOUT
                )
            )
        except ApiException as error:
            if error.status == CONFLICT:  # the name is taken
                return False
            raise WorkerError(
                f"the cluster rejected Job {job.metadata.name}: {explanation(error)}"
            ) from error
        return True

    def jobs(self, labels: Mapping[str, str]) -> list[Job]:
        """Return the Jobs with these labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return patiently(
            lambda: self._batch.list_namespaced_job(
                self.namespace, label_selector=selector, _request_timeout=TIMEOUT
            )
        ).items

    def label_job(self, name: str, labels: Mapping[str, str]) -> None:
        """Change labels of a Job."""
        body = {"metadata": {"labels": dict(labels)}}
        patiently(
            lambda: self._batch.patch_namespaced_job(
                name, self.namespace, body, _request_timeout=TIMEOUT
            )
        )

    def delete_job(self, name: str) -> None:
        """Delete a Job with its pods, which get their grace period; it may be gone already."""
        options = {"propagation_policy": "Foreground", "_request_timeout": TIMEOUT}
        _unless_gone(lambda: self._batch.delete_namespaced_job(name, self.namespace, **options))

    def evict_pod(self, name: str, grace_seconds: float) -> None:
        """Evict a pod, as a disruption does; it may be gone already.

        Args:
            name: The pod.
            grace_seconds: How long it may take to stop.
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name},
            "deleteOptions": {"gracePeriodSeconds": round(grace_seconds)},
        }
        _unless_gone(
            lambda: self._core.create_namespaced_pod_eviction(
                name, self.namespace, body, _request_timeout=TIMEOUT
            )
        )

    def warnings_of(self, job: str) -> list[Event]:
        """Return the cluster's warnings about a Job itself, such as an exceeded quota."""
        fields = f"involvedObject.kind=Job,involvedObject.name={job},type=Warning"
        return patiently(
            lambda: self._core.list_namespaced_event(
                self.namespace, field_selector=fields, _request_timeout=TIMEOUT
            )
        ).items

    def before_in_queue(self, queue: str, job: str) -> int | None:
        """Return how many workloads Kueue admits before a Job of a local queue; None if unknown.

        Positions are those in the cluster queue, which other local queues share. Kueue lists the
        first thousand. https://kueue.sigs.k8s.io/docs/tasks/manage/monitor_pending_workloads
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            pending: Any = self._batch.api_client.call_api(
                "/apis/visibility.kueue.x-k8s.io/v1beta1/namespaces/{namespace}/localqueues/{name}"
                "/pendingworkloads",
                "GET",
                path_params={"namespace": self.namespace, "name": queue},
                response_types_map={200: "object"},
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=TIMEOUT,
            )
        except (ApiException, HTTPError):
            return None
        # An empty list is null, and the workloads of others may have no owner.
        for workload in pending["items"] or ():
            owners = workload["metadata"].get("ownerReferences", ())
            if any((owner["kind"], owner["name"]) == ("Job", job) for owner in owners):
                return workload["positionInClusterQueue"]
        return None

    def list_job(self, name: str) -> Any:
        """Return the list of the one Job of that name; the request is not repeated."""
        return self._batch.list_namespaced_job(
            self.namespace, field_selector=f"metadata.name={name}", _request_timeout=TIMEOUT
        )

    def watch_job(self, name: str, **options: Any) -> Iterator[Any]:
        """Return the events of that list."""
        from kubernetes.watch import Watch

        fields = f"metadata.name={name}"
        return Watch().stream(
            self._batch.list_namespaced_job,
            self.namespace,
            field_selector=fields,
            _request_timeout=TIMEOUT,
            **options,
        )

    def list_pods(self, job: str) -> Any:
        """Return the list of a Job's pods; the request is not repeated."""
        return self._core.list_namespaced_pod(
            self.namespace, label_selector=f"job-name={job}", _request_timeout=TIMEOUT
        )

    def watch_pods(self, job: str, **options: Any) -> Iterator[Any]:
        """Return the events of that list."""
        from kubernetes.watch import Watch

        labels = f"job-name={job}"
        return Watch().stream(
            self._core.list_namespaced_pod,
            self.namespace,
            label_selector=labels,
            _request_timeout=TIMEOUT,
            **options,
        )

    def pod_log(self, pod: str, **options: Any) -> Any:
        """Return what `read_namespaced_pod_log` returns; the request is not repeated."""
        return self._core.read_namespaced_pod_log(
            pod, self.namespace, container="worker", **options
        )


def patiently(request: Callable[[], Any]) -> Any:
    """Repeat a request while the API is busy or unreachable, for some minutes.

    Raises:
        ApiException: The API has answered with an error that a repetition would not change.
        WorkerError: The API is unreachable.
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    deadline, wait = time.monotonic() + PATIENCE_SECONDS, RETRY_SECONDS[0]
    while True:
        try:
            return request()
        except ApiException as error:
            if not _is_transient(error) or time.monotonic() > deadline:
                raise
        except (HTTPError, OSError) as error:
            if time.monotonic() > deadline:
                raise WorkerError(
                    f"Kubernetes does not answer: {one_line(error, ERROR_LENGTH)}"
                ) from error
        time.sleep(wait)
        wait = min(2 * wait, RETRY_SECONDS[1])


def _is_transient(error: "ApiException") -> bool:
    """Return whether the same request may succeed later: the API is busy, or changes conflict."""
    return error.status in BUSY or (
        error.status == CONFLICT and _status_field(error, "reason") == "Conflict"
    )


def explanation(error: "ApiException") -> str:
    """Return the API's own explanation of an error, on one line."""
    return " ".join(_status_field(error, "message").split()) or one_line(error, ERROR_LENGTH)


def _status_field(error: "ApiException", key: str) -> str:
    """Return a field of the Status that the API answers with; empty if it answers otherwise."""
    try:
        return str(json.loads(error.body or "")[key])
    except (TypeError, ValueError, KeyError):
        return ""


def _unless_gone(request: Callable[[], Any]) -> None:
    from kubernetes.client import ApiException

    try:
        patiently(request)
    except ApiException as error:
        if error.status not in (NOT_FOUND, CONFLICT, GONE):
            raise WorkerError(f"Kubernetes: {explanation(error)}") from error
