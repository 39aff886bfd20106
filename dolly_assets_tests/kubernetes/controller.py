"""The Job controller, scheduler and garbage collector of the stand-in cluster.

It knows no HTTP and no processes.

Of Jobs it knows Indexed and plain ones, `podFailurePolicy`, `backoffLimit`,
`backoffLimitPerIndex`, `activeDeadlineSeconds`, `suspend` and `ttlSecondsAfterFinished`; a pod is
replaced when it has ended (`podReplacementPolicy: Failed`), after a pause that doubles with each
failure.
"""

import contextlib
import secrets
import threading
import time
from typing import Any

from dolly_assets_tests.kubernetes.admission import TOLERATIONS, action_for, over_limit
from dolly_assets_tests.kubernetes.node import Node
from dolly_assets_tests.kubernetes.objects import (
    Object,
    Objects,
    Refused,
    condition,
    now,
    with_condition,
)

PAUSE_SECONDS = (10, 600)  # before a pod is replaced: after the first failure, the longest
EVENT_SECONDS = 0.2  # between events of a pod that cannot be created
INDEX = "batch.kubernetes.io/job-completion-index"
ENDED = ("Failed", "Succeeded")


class Controller:
    """Brings the cluster to what its objects ask for, on a thread of its own.

    Attributes:
        held: Why pods are not scheduled, while they are not.
        image_error: Why images are not pulled (`ErrImagePull`), while they are not.
        mount_error: Why volumes are not mounted (an event of the pod), while they are not.
        quota_error: Why the Job controller may not create pods, while it may not.
        is_ending: Whether nothing can be created, not even an event.
        default_limits: The limits that a LimitRange gives to containers without.
    """

    def __init__(self, objects: Objects, node: Node, speed: float) -> None:
        self._objects, self._node, self._speed = objects, node, speed
        self.held: str | None = None
        self.image_error: str | None = None
        self.mount_error: str | None = None
        self.quota_error: str | None = None
        self.is_ending = False
        self.default_limits: dict[str, str] = {}
        self._failures: dict[tuple[str, int], tuple[int, float]] = {}  # how many, when the last
        self._event_at: dict[str, float] = {}
        self._stopping: set[str] = set()
        self._finished: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._closed = True
        with self._objects.changed:
            self._objects.changed.notify_all()
        self._thread.join()

    def wake(self) -> None:
        """Something else than an object has changed."""
        with self._objects.changed:
            self._objects.changed.notify_all()

    def _run(self) -> None:
        while not self._closed:
            seen = self._objects.version
            for job in self._objects.list("jobs"):
                with contextlib.suppress(Refused):  # deleted meanwhile
                    self._reconcile(job)
            for pod in self._objects.list("pods"):
                with contextlib.suppress(Refused):
                    self._collect(pod)
                    self._run_pod(pod)
            with self._objects.changed:
                if self._objects.version == seen:
                    self._objects.changed.wait(0.05)

    def _collect(self, pod: Object) -> None:
        """The garbage collector ends a pod whose Job is gone."""
        jobs = {job["metadata"]["uid"] for job in self._objects.list("jobs")}
        owners = [owner["uid"] for owner in pod["metadata"].get("ownerReferences", [])]
        if owners and not jobs.intersection(owners):
            self.delete_pod(pod)

    def pods_of(self, job: Object) -> list[Object]:
        """The pods that a Job owns."""
        uid = job["metadata"]["uid"]
        return [
            pod
            for pod in self._objects.list("pods", job["metadata"]["namespace"])
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences", []))
        ]

    def _reconcile(self, job: Object) -> None:
        pods = self.pods_of(job)
        if "deletionTimestamp" in job["metadata"]:
            for pod in pods:
                self.delete_pod(pod)
            if not pods and not job["metadata"].get("finalizers"):
                self._objects.remove("jobs", job["metadata"]["namespace"], job["metadata"]["name"])
            return
        if "Complete" in _conditions(job) or "Failed" in _conditions(job):
            self._expire(job)
            return
        if job["spec"].get("suspend"):
            return
        uid = job["metadata"]["uid"]
        self._started.setdefault(uid, time.monotonic())
        status = dict(job.get("status", {}))
        failure = condition(job, "FailureTarget")
        counted = set(status.get("counted", []))
        for pod in pods:
            if pod["status"]["phase"] == "Failed" and pod["metadata"]["uid"] not in counted:
                counted.add(pod["metadata"]["uid"])
                action, why = action_for(job, pod)
                status["failed"] = status.get("failed", 0) + (action != "Ignore")
                self._note_failure(job, pod)
                if action == "FailJob":
                    failure = failure or _reason("PodFailurePolicy", why)
        indexes = range(job["spec"].get("completions", 1))
        done = {_index(pod) for pod in pods if pod["status"]["phase"] == "Succeeded"}
        active = [pod for pod in pods if pod["status"]["phase"] not in ENDED]
        failure = failure or self._limit(job, status)
        if failure:
            for pod in active:
                self.delete_pod(pod)
            if not condition(job, "FailureTarget"):
                status["conditions"] = [{"type": "FailureTarget", **failure}]
            elif not active:
                self._finish(job, {**status, "counted": sorted(counted)}, "Failed", failure)
                return
        elif done >= set(indexes):
            met = _reason("CompletionsReached", "Reached expected number of succeeded pods")
            if condition(job, "SuccessCriteriaMet"):
                self._finish(job, status, "Complete", met)
                return
            status["conditions"] = [{"type": "SuccessCriteriaMet", **met}]
        else:
            for index in set(indexes) - done - {_index(pod) for pod in active}:
                if not self._is_paused(job, index):
                    self._create_pod(job, index)
        new = {**status, "active": len(active), "succeeded": len(done), "counted": sorted(counted)}
        if new != job.get("status"):
            self._write_status(
                job, {"startTime": job.get("status", {}).get("startTime", now()), **new}
            )

    def _note_failure(self, job: Object, pod: Object) -> None:
        key = self._counter(job, _index(pod))
        self._failures[key] = self._failures.get(key, (0, 0.0))[0] + 1, time.monotonic()

    def _counter(self, job: Object, index: int) -> tuple[str, int]:
        is_by_index = "backoffLimitPerIndex" in job["spec"]
        return job["metadata"]["uid"], index if is_by_index else -1

    def _is_paused(self, job: Object, index: int) -> bool:
        failures, last = self._failures.get(self._counter(job, index), (0, 0.0))
        seconds = min(PAUSE_SECONDS[0] * 2 ** (failures - 1), PAUSE_SECONDS[1]) if failures else 0
        return time.monotonic() - last < seconds / self._speed

    def _limit(self, job: Object, status: Object) -> Object | None:
        """The condition of a Job that has failed too often, or was active for too long."""
        spec, uid = job["spec"], job["metadata"]["uid"]
        most = max(
            (times for (of, _), (times, _) in self._failures.items() if of == uid), default=0
        )
        if most > spec.get("backoffLimitPerIndex", most) and spec.get("maxFailedIndexes") == 0:
            return _reason(
                "MaxFailedIndexesExceeded",
                "Job has exceeded the specified maximal number of failed indexes",
            )
        if status.get("failed", 0) > spec.get("backoffLimit", 6):
            return _reason("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        limit = spec.get("activeDeadlineSeconds")
        if limit and time.monotonic() - self._started[uid] > limit / self._speed:
            return _reason("DeadlineExceeded", "Job was active longer than specified deadline")
        return None

    def _finish(self, job: Object, status: Object, kind: str, why: Object) -> None:
        conditions = [*status.get("conditions", []), {"type": kind, **why}]
        self._write_status(
            job, {**status, "active": 0, "conditions": conditions, "completionTime": now()}
        )

    def _expire(self, job: Object) -> None:
        ttl, uid = job["spec"].get("ttlSecondsAfterFinished"), job["metadata"]["uid"]
        ended = self._finished.setdefault(uid, time.monotonic())
        if ttl is not None and time.monotonic() - ended > ttl / self._speed:
            self.delete_job(job)

    def _write_status(self, job: Object, status: Object) -> None:
        self._objects.update(
            "jobs", job["metadata"]["namespace"], job["metadata"]["name"], {"status": status}
        )

    def _create_pod(self, job: Object, index: int) -> None:
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        template: Any = job["spec"]["template"]
        pod_name = f"{name}-{index}-{secrets.token_hex(3)[:5]}"
        if self.is_ending:
            return
        if self.quota_error:
            why = f'pods "{pod_name}" is forbidden: {self.quota_error}'
            self._event(job, "FailedCreate", f"Error creating: {why}")
            return
        if over := over_limit(template, self.default_limits):
            why = f'Pod "{pod_name}" is invalid: spec.containers[0].resources.requests: {over}'
            self._event(job, "FailedCreate", f"Error creating: {why}")
            return
        metadata = {
            "name": pod_name,
            "labels": {
                **template.get("metadata", {}).get("labels", {}),
                "job-name": name,
                "batch.kubernetes.io/job-name": name,
                "batch.kubernetes.io/controller-uid": job["metadata"]["uid"],
            },
            "annotations": {
                **template.get("metadata", {}).get("annotations", {}),
                INDEX: str(index),
            },
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": name,
                    "uid": job["metadata"]["uid"],
                    "controller": True,
                }
            ],
        }
        spec = {**template["spec"], "hostname": f"{name}-{index}"}
        spec["tolerations"] = [*spec.get("tolerations", []), *TOLERATIONS]
        if job["spec"].get("completionMode") == "Indexed":
            by_index = {
                "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
            }
            spec["containers"] = [
                {
                    **item,
                    "env": [{"name": "JOB_COMPLETION_INDEX", **by_index}, *item.get("env", [])],
                }
                for item in spec["containers"]
            ]
        self._objects.create(
            "pods", namespace, {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}
        )

    def _event(self, of: Object, reason: str, message: str) -> None:
        namespace, name = of["metadata"]["namespace"], of["metadata"]["name"]
        if time.monotonic() - self._event_at.get(name, 0.0) < EVENT_SECONDS:
            return
        self._event_at[name] = time.monotonic()
        involved = {
            "kind": of["kind"],
            "name": name,
            "namespace": namespace,
            "uid": of["metadata"]["uid"],
        }
        body = {
            "metadata": {"generateName": f"{name}."},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "type": "Warning",
            "lastTimestamp": now(),
        }
        with contextlib.suppress(Refused):
            self._objects.create("events", namespace, body)

    def _run_pod(self, pod: Object) -> None:
        metadata, status = pod["metadata"], pod["status"]
        if "deletionTimestamp" in metadata or status["phase"] != "Pending":
            return
        if self.held is not None and "nodeName" not in pod["spec"]:
            reason = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": self.held,
            }
            if status.get("conditions") != [reason]:
                self._objects.update(
                    "pods",
                    metadata["namespace"],
                    metadata["name"],
                    {"status": {"conditions": [reason]}},
                )
            return
        scheduled = with_condition(pod, "PodScheduled", "True")
        if "nodeName" not in pod["spec"]:
            patch = {"spec": {"nodeName": "node-1"}, "status": {"conditions": scheduled}}
            pod = self._objects.update("pods", metadata["namespace"], metadata["name"], patch)
        if self.mount_error:
            self._event(pod, "FailedMount", self.mount_error)
        elif self.image_error:
            image = pod["spec"]["containers"][0]["image"]
            waiting = {"reason": self.image_error, "message": f'Back-off pulling image "{image}"'}
            container = {
                "name": pod["spec"]["containers"][0]["name"],
                "image": image,
                "state": {"waiting": waiting},
            }
            container |= {"ready": False, "restartCount": 0, "imageID": ""}
            if pod["status"].get("containerStatuses") != [container]:
                self._objects.update(
                    "pods",
                    metadata["namespace"],
                    metadata["name"],
                    {"status": {"containerStatuses": [container]}},
                )
        elif metadata["uid"] not in self._node.processes:
            self._node.start(pod)

    def delete_job(self, job: Object, policy: str = "Foreground") -> None:
        """Deletes a Job: after its pods, before them, or without them (`Orphan`)."""
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        if policy == "Foreground":
            patch = {"metadata": {"deletionTimestamp": now()}}
            self._objects.update("jobs", namespace, name, patch)
            return
        if policy == "Orphan":
            for pod in self.pods_of(job):
                patch = {"metadata": {"ownerReferences": []}}
                self._objects.update("pods", namespace, pod["metadata"]["name"], patch)
        self._objects.remove("jobs", namespace, name)

    def disrupt(self, pod: Object, reason: str, message: str) -> None:
        """Notes on a pod why the cluster ends it, which its Job then counts as a disruption."""
        metadata = pod["metadata"]
        found = self._objects.get("pods", metadata["namespace"], metadata["name"])
        conditions = with_condition(
            found, "DisruptionTarget", "True", reason=reason, message=message
        )
        self._objects.update(
            "pods", metadata["namespace"], metadata["name"], {"status": {"conditions": conditions}}
        )

    def delete_pod(self, pod: Object, grace_seconds: float | None = None) -> None:
        """Ends a pod with its grace period, on a thread of its own, and takes it out."""
        metadata = pod["metadata"]
        if metadata["uid"] in self._stopping:
            return
        self._stopping.add(metadata["uid"])
        grace = (
            grace_seconds
            if grace_seconds is not None
            else pod["spec"].get("terminationGracePeriodSeconds", 30)
        )
        with contextlib.suppress(Refused):
            self._objects.update(
                "pods",
                metadata["namespace"],
                metadata["name"],
                {"metadata": {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}},
            )
        threading.Thread(target=self._end_pod, args=(pod, grace), daemon=True).start()

    def _end_pod(self, pod: Object, grace: float) -> None:
        metadata = pod["metadata"]
        while metadata["uid"] in self._node.silent:
            time.sleep(0.02)
        self._node.stop(pod, grace)
        if log := self._node.logs.get(metadata["uid"]):
            with log.changed:
                log.changed.wait_for(lambda: log.is_complete, 10)
        with contextlib.suppress(Refused):
            found = self._objects.get("pods", metadata["namespace"], metadata["name"])
            if found["status"]["phase"] not in ENDED:
                self._objects.update(
                    "pods", metadata["namespace"], metadata["name"], {"status": {"phase": "Failed"}}
                )
            self._count_before_it_goes(found)
            self._objects.remove("pods", metadata["namespace"], metadata["name"])

    def _count_before_it_goes(self, pod: Object) -> None:
        """A pod that a Job owns has a finalizer: it goes when the Job controller has counted it."""
        metadata = pod["metadata"]
        [owner] = metadata.get("ownerReferences", [None])
        deadline = time.monotonic() + 5
        while owner and time.monotonic() < deadline:
            try:
                job = self._objects.get("jobs", metadata["namespace"], owner["name"])
            except Refused:
                return
            status = job.get("status", {})
            is_over = "deletionTimestamp" in job["metadata"] or status.get("conditions")
            if is_over or metadata["uid"] in status.get("counted", []):
                return
            time.sleep(0.01)


def _reason(reason: str, message: str) -> Object:
    """A condition that holds, but for its type."""
    since = {"lastTransitionTime": now()}
    return {"status": "True", "reason": reason, "message": message, **since}


def _conditions(job: Object) -> set[str]:
    return {
        item["type"]
        for item in job.get("status", {}).get("conditions", [])
        if item["status"] == "True"
    }


def _index(pod: Object) -> int:
    return int(pod["metadata"]["annotations"][INDEX])
