"""What we ask of the Kubernetes API, with patience: answers that will be others in a moment are not taken for the end.

Of trainings it knows nothing. Which requests are in here decides which Roles a deployment needs.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ConfigurationError, WorkerError
from dolly_assets.launchers.kubernetes.pods import Event, Job

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

PATIENCE_SECONDS = 300.0
AGAIN_SECONDS = (0.2, 10.0)  # at first, at most
TIMEOUT = (10, 90)  # to connect, to hear something
BUSY = {408, 429, 500, 502, 503, 504}
FORBIDDEN = {401, 403}
NOT_FOUND, CONFLICT, GONE = 404, 409, 410
REFUSED = {400, 422, *FORBIDDEN}


def connect(context: str | None) -> "ApiClient":
    """The way to the cluster of a kubeconfig's context; without one: the pod's own, else the current.

    Raises:
        ConfigurationError: There is no such context, or neither a kubeconfig nor a pod's account.
    """
    from kubernetes import client, config

    try:
        if context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            configuration = client.Configuration()
            config.load_incluster_config(client_configuration=configuration)
            return client.ApiClient(configuration)
        # The client looks at KUBECONFIG when it is imported, and not again.
        return config.new_client_from_config(os.environ.get("KUBECONFIG"), context)
    except config.ConfigException as error:
        raise ConfigurationError(
            f"no way to a Kubernetes cluster: {one_line(error)}; set KUBECONFIG"
        ) from error


class Api:
    """One namespace of a cluster, in a context as `connect` takes it."""

    def __init__(self, namespace: str, context: str | None = None) -> None:
        from kubernetes import client

        connection = connect(context)
        self.namespace = namespace
        self._batch, self._core = client.BatchV1Api(connection), client.CoreV1Api(connection)

    def create_job(self, job: Job) -> bool:
        """Makes a Job; False if there is one of that name already, perhaps by a request whose answer was lost.

        Raises:
            WorkerError: The cluster refuses it (rights, policy, quota); the text says why.
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
                f"the cluster does not take Job {job.metadata.name}: {explanation(error)}"
            ) from error
        return True

    def jobs(self, labels: Mapping[str, str]) -> list[Job]:
        """The Jobs with these labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return patiently(
            lambda: self._batch.list_namespaced_job(
                self.namespace, label_selector=selector, _request_timeout=TIMEOUT
            )
        ).items

    def label_job(self, name: str, labels: Mapping[str, str]) -> None:
        """Changes labels of a Job."""
        body = {"metadata": {"labels": dict(labels)}}
        patiently(
            lambda: self._batch.patch_namespaced_job(
                name, self.namespace, body, _request_timeout=TIMEOUT
            )
        )

    def delete_job(self, name: str) -> None:
        """Ends a Job with its pods, which get their grace period; one that is gone is fine."""
        options = {"propagation_policy": "Foreground", "_request_timeout": TIMEOUT}
        _unless_gone(lambda: self._batch.delete_namespaced_job(name, self.namespace, **options))

    def evict_pod(self, name: str, grace_seconds: float) -> None:
        """Has a pod end in so many seconds, as one that is disrupted; one that is gone is fine."""
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
        """What the cluster warns of about a Job itself, such as a quota that is exceeded."""
        fields = f"involvedObject.kind=Job,involvedObject.name={job},type=Warning"
        return patiently(
            lambda: self._core.list_namespaced_event(
                self.namespace, field_selector=fields, _request_timeout=TIMEOUT
            )
        ).items

    def before_in_queue(self, queue: str, job: str) -> int | None:
        """How many workloads Kueue admits before a Job of a local queue; None if it does not tell.

        Positions are those in the cluster queue, which other local queues share. It lists the first
        thousand. https://kueue.sigs.k8s.io/docs/tasks/manage/monitor_pending_workloads
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            pending: Any = self._batch.api_client.call_api(
                "/apis/visibility.kueue.x-k8s.io/v1beta1/namespaces/{namespace}/localqueues/{name}/pendingworkloads",
                "GET",
                path_params={"namespace": self.namespace, "name": queue},
                response_types_map={200: "object"},
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=TIMEOUT,
            )
        except (ApiException, HTTPError):
            return None
        for workload in (
            pending["items"] or ()
        ):  # an empty list is null, and others' workloads may have no owner
            owners = workload["metadata"].get("ownerReferences", ())
            if any((owner["kind"], owner["name"]) == ("Job", job) for owner in owners):
                return workload["positionInClusterQueue"]
        return None

    def list_job(self, name: str) -> Any:
        """The list of the one Job of that name, once: without patience."""
        return self._batch.list_namespaced_job(
            self.namespace, field_selector=f"metadata.name={name}", _request_timeout=TIMEOUT
        )

    def watch_job(self, name: str, **options: Any) -> Iterator[Any]:
        """Events of that list."""
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
        """The list of a Job's pods, once: without patience."""
        return self._core.list_namespaced_pod(
            self.namespace, label_selector=f"job-name={job}", _request_timeout=TIMEOUT
        )

    def watch_pods(self, job: str, **options: Any) -> Iterator[Any]:
        """Events of that list."""
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
        """What `read_namespaced_pod_log` returns for the options, without patience."""
        return self._core.read_namespaced_pod_log(
            pod, self.namespace, container="worker", **options
        )


def patiently(request: Callable[[], Any]) -> Any:
    """Asks again while the API is busy or away, for some minutes; other answers are the caller's."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    deadline, wait = time.monotonic() + PATIENCE_SECONDS, AGAIN_SECONDS[0]
    while True:
        try:
            return request()
        except ApiException as error:
            if not _is_for_now(error) or time.monotonic() > deadline:
                raise
        except (HTTPError, OSError) as error:
            if time.monotonic() > deadline:
                raise WorkerError(f"Kubernetes does not answer: {one_line(error)}") from error
        time.sleep(wait)
        wait = min(2 * wait, AGAIN_SECONDS[1])


def _is_for_now(error: "ApiException") -> bool:
    """Whether the same request may be answered otherwise in a moment: a busy API, or a change that met another one."""
    return error.status in BUSY or (
        error.status == CONFLICT and _said(error, "reason") == "Conflict"
    )


def explanation(error: "ApiException") -> str:
    """What the API has to say for itself, on one line."""
    return " ".join(_said(error, "message").split()) or one_line(error)


def _said(error: "ApiException", key: str) -> str:
    """Of the Status that the API answers with; empty if it answers with something else."""
    try:
        return str(json.loads(error.body or "")[key])
    except (TypeError, ValueError, KeyError):
        return ""


def one_line(error: BaseException) -> str:
    """An error's text."""
    return " ".join(str(error).split())[:300]


def _unless_gone(request: Callable[[], Any]) -> None:
    from kubernetes.client import ApiException

    try:
        patiently(request)
    except ApiException as error:
        if error.status not in (NOT_FOUND, CONFLICT, GONE):
            raise WorkerError(f"Kubernetes: {explanation(error)}") from error
