"""The requests to the Kubernetes API, repeated while it is busy or unreachable.

It knows nothing of training. The requests in this module determine the Roles that a deployment
needs.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ConfigurationError, WorkerError
from dolly_assets.core.text import one_line
from dolly_assets.launchers.kubernetes.connection import (
    ERROR_LENGTH,
    UNAUTHORIZED,
    connect,
    no_answer,
)
from dolly_assets.launchers.kubernetes.pods import Event, Job, Pod

if TYPE_CHECKING:
    from kubernetes.client import ApiException

PATIENCE_SECONDS = 300.0
RETRY_SECONDS = (0.2, 10.0)  # the first wait, the longest wait
TIMEOUT = (10, 90)  # to connect, to receive something
BUSY = {408, 429, 500, 502, 503, 504}
FORBIDDEN = {UNAUTHORIZED, 403}
BAD_REQUEST, NOT_FOUND, CONFLICT, GONE = 400, 404, 409, 410
KUEUE_VERSIONS = ("v1beta2", "v1beta1")  # since 0.15, and before


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

    def create_job(self, job: Job, log: Callable[[str], None] = lambda _: None) -> bool:
        """Create a Job.

        Args:
            job: The Job.
            log: Called with each new reason for which it cannot be created yet, such as an
                admission webhook that does not answer.

        Returns:
            False if a Job of that name already exists, perhaps by a request whose answer was lost.

        Raises:
            WorkerError: The cluster rejects it (permissions, policy, quota); the message has the
                reason.
        """
        from kubernetes.client import ApiException

        name, reported = job.metadata.name, set[str]()

        def report(why: str) -> None:
            if why not in reported:
                reported.add(why)
                log(f"Job {name} cannot be created yet, trying again: {why}")

        try:
            patiently(
                lambda: self._batch.create_namespaced_job(
                    self.namespace, job, _request_timeout=TIMEOUT
                ),
                report,
            )
        except ApiException as error:
            if error.status == CONFLICT:  # the name is taken
                return False
            raise WorkerError(f"the cluster rejected Job {name}: {_rejection(error)}") from error
        return True

    def jobs(self, labels: Mapping[str, str]) -> list[Job]:
        """Return the Jobs with these labels."""
        return _explained(
            lambda: self._batch.list_namespaced_job(
                self.namespace, label_selector=_selector(labels), _request_timeout=TIMEOUT
            )
        ).items

    def label_job(self, name: str, labels: Mapping[str, str]) -> None:
        """Change labels of a Job."""
        body = {"metadata": {"labels": dict(labels)}}
        _explained(
            lambda: self._batch.patch_namespaced_job(
                name, self.namespace, body, _request_timeout=TIMEOUT
            )
        )

    def delete_job(self, name: str) -> None:
        """Delete a Job with its pods, which get their grace period; it may be gone already."""
        options = {"propagation_policy": "Foreground", "_request_timeout": TIMEOUT}
        _unless_gone(lambda: self._batch.delete_namespaced_job(name, self.namespace, **options))

    def fail_job(self, name: str) -> None:
        """End a Job as failed, so that it can be inspected; its pods get their grace period.

        Its deadline is the one limit of a Job that can be set while it runs.
        """
        body = {"spec": {"activeDeadlineSeconds": 1}}
        _unless_gone(
            lambda: self._batch.patch_namespaced_job(
                name, self.namespace, body, _request_timeout=TIMEOUT
            )
        )

    def pods(self, labels: Mapping[str, str]) -> list[Pod]:
        """Return the pods with these labels."""
        return _explained(
            lambda: self._core.list_namespaced_pod(
                self.namespace, label_selector=_selector(labels), _request_timeout=TIMEOUT
            )
        ).items

    def delete_pod(self, name: str, grace_seconds: float) -> None:
        """Delete a pod; it may be gone already. The request is not repeated.

        Args:
            name: The pod.
            grace_seconds: How long it may take to stop.

        Raises:
            WorkerError: The cluster refuses it, or does not answer.
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            self._core.delete_namespaced_pod(
                name,
                self.namespace,
                grace_period_seconds=round(grace_seconds),
                _request_timeout=TIMEOUT,
            )
        except ApiException as error:
            if error.status not in (NOT_FOUND, CONFLICT, GONE):
                raise WorkerError(explanation(error)) from error
        except (HTTPError, OSError) as error:
            raise WorkerError(no_answer(error)) from error

    def is_ending(self) -> bool:
        """Return whether the namespace is being deleted, or is gone.

        An account of a namespace need not have the right to read it. This request would be refused
        for that cause, and otherwise changes nothing.
        https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run
        """
        from kubernetes.client import ApiException

        container = {"name": "none", "image": "none"}
        pod = {"restartPolicy": "Never", "containers": [container]}
        job: Any = {"metadata": {"name": "none"}, "spec": {"template": {"spec": pod}}}
        try:
            self._batch.create_namespaced_job(
                self.namespace, job, dry_run="All", _request_timeout=TIMEOUT
            )
        except ApiException as error:
            return error.status == NOT_FOUND or _is_namespace_ending(error)
        return False

    def warnings_of(self, kind: str, name: str) -> list[Event]:
        """Return the cluster's warnings about a Job or a pod, such as an exceeded quota.

        The request is not repeated: nothing should wait for what only helps.
        """
        fields = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
        events: Any = self._core.list_namespaced_event(
            self.namespace, field_selector=fields, _request_timeout=TIMEOUT
        )
        return events.items

    def workload_reason(self, job_uid: str) -> str:
        """Return why Kueue does not admit a Job, as its Workload says; empty if unknown.

        https://kueue.sigs.k8s.io/docs/concepts/workload
        """
        found = _of_kueue(
            lambda version: self._batch.api_client.call_api(
                "/apis/kueue.x-k8s.io/{version}/namespaces/{namespace}/workloads",
                "GET",
                path_params={"version": version, "namespace": self.namespace},
                query_params=[("labelSelector", f"kueue.x-k8s.io/job-uid={job_uid}")],
                response_types_map={200: "object"},
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=TIMEOUT,
            )
        )
        for workload in found.get("items") or ():
            for condition in workload.get("status", {}).get("conditions", ()):
                if condition["type"] == "QuotaReserved" and condition["status"] == "False":
                    is_active = workload["spec"].get("active", True)
                    state = condition["reason"] if is_active else "deactivated"
                    return f"{state}: {condition['message']}"
        return ""

    def before_in_queue(self, queue: str, job: str) -> int | None:
        """Return how many workloads Kueue admits before a Job of a local queue; None if unknown.

        Positions are those in the cluster queue, which other local queues share. Kueue lists the
        first thousand. https://kueue.sigs.k8s.io/docs/tasks/manage/monitor_pending_workloads
        """
        pending = _of_kueue(
            lambda version: self._batch.api_client.call_api(
                "/apis/visibility.kueue.x-k8s.io/{version}/namespaces/{namespace}/localqueues/{name}"
                "/pendingworkloads",
                "GET",
                path_params={"version": version, "namespace": self.namespace, "name": queue},
                response_types_map={200: "object"},
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=TIMEOUT,
            )
        )
        # An empty list is null, and the workloads of others may have no owner.
        for workload in pending.get("items") or ():
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
            pod, self.namespace, container="worker", _request_timeout=TIMEOUT, **options
        )


def _of_kueue(request: Callable[[str], Any]) -> dict[str, Any]:
    """Return the answer in the version of Kueue's API that is served; empty if none answers."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    for version in KUEUE_VERSIONS:
        with contextlib.suppress(ApiException, HTTPError):
            return request(version)
    return {}


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def patiently(request: Callable[[], Any], report: Callable[[str], None] = lambda _: None) -> Any:
    """Repeat a request while the API is busy or unreachable, for some minutes.

    Args:
        request: Makes it.
        report: Called with the reason before each repetition.

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
            report(explanation(error))
        except (HTTPError, OSError) as error:
            if time.monotonic() > deadline:
                raise WorkerError(f"Kubernetes does not answer: {no_answer(error)}") from error
            report(no_answer(error))
        time.sleep(wait)
        wait = min(2 * wait, RETRY_SECONDS[1])


def _explained(request: Callable[[], Any]) -> Any:
    """Repeat a request as `patiently` does.

    Raises:
        ConfigurationError: This account may not make it.
        WorkerError: The API answers with another error, or not at all.
    """
    from kubernetes.client import ApiException

    try:
        return patiently(request)
    except ApiException as error:
        if error.status in FORBIDDEN:
            text = refusal(explanation(error), is_known=error.status != UNAUTHORIZED)
            raise ConfigurationError(text) from error
        raise WorkerError(f"Kubernetes: {explanation(error)}") from error


def refusal(answer: str, *, is_known: bool) -> str:
    """Return what to do about a request that the cluster forbids.

    Args:
        answer: The API's answer.
        is_known: Whether it knows the account.
    """
    if is_known:
        return f"this account may not follow Jobs in the cluster: {answer}"
    return f"the cluster does not accept this account's credentials ({answer}): renew them"


def _rejection(error: "ApiException") -> str:
    """Return why a Job cannot be created, and what to do."""
    why = explanation(error)
    if error.status == NOT_FOUND:
        return f"{why}: create it, or correct `namespace` in the file that DOLLY_KUBERNETES names"
    if _is_namespace_ending(error):
        return f"{why}: create it again when it is gone, or correct `namespace`"
    if "exceeded quota" in why:
        return f"{why}: raise the quota, or delete Jobs that have ended, which `keep_minutes` keeps"
    return why


def _is_namespace_ending(error: "ApiException") -> bool:
    """Return whether the API refuses a request because its namespace is being deleted."""
    causes = (_status_field(error, "details") or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def _is_transient(error: "ApiException") -> bool:
    """Return whether the same request may succeed later: the API is busy, or changes conflict."""
    return error.status in BUSY or (
        error.status == CONFLICT and _status_field(error, "reason") == "Conflict"
    )


def explanation(error: "ApiException") -> str:
    """Return the API's own explanation of an error, on one line."""
    return " ".join(str(_status_field(error, "message")).split()) or one_line(error, ERROR_LENGTH)


def _status_field(error: "ApiException", key: str) -> Any:
    """Return a field of the Status that the API answers with; empty if it answers otherwise."""
    try:
        return json.loads(error.body or "")[key]
    except (TypeError, ValueError, KeyError):
        return ""


def _unless_gone(request: Callable[[], Any]) -> None:
    from kubernetes.client import ApiException

    try:
        patiently(request)
    except ApiException as error:
        if error.status not in (NOT_FOUND, CONFLICT, GONE):
            raise WorkerError(f"Kubernetes: {explanation(error)}") from error
