"""The Job controller, scheduler and garbage collector of the stand-in cluster.

It knows no HTTP and no processes.

Of Jobs it knows Indexed and plain ones, `podFailurePolicy`, `backoffLimit`,
`activeDeadlineSeconds`, `suspend` and `ttlSecondsAfterFinished`; a pod is replaced when it has
ended (`podReplacementPolicy: Failed`).
"""

import contextlib
import threading
import time
from typing import Any

from dolly_assets_tests.kubernetes.node import Node
from dolly_assets_tests.kubernetes.objects import Object, Objects, Refused, now

INDEX = "batch.kubernetes.io/job-completion-index"
ENDED = ("Failed", "Succeeded")


class Controller:
    """Brings the cluster to what its objects ask for, on a thread of its own.

    Attributes:
        held: Why pods are not scheduled, while they are not.
        image_error: Why images are not pulled (`ErrImagePull`), while they are not.
        quota_error: Why the Job controller may not create pods, while it may not.
    """

    def __init__(self, objects: Objects, node: Node, speed: float) -> None:
        self._objects, self._node, self._speed = objects, node, speed
        self.held: str | None = None
        self.image_error: str | None = None
        self.quota_error: str | None = None
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
                    self._run_pod(pod)
            with self._objects.changed:
                if self._objects.version == seen:
                    self._objects.changed.wait(0.05)

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
            if not pods:
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
        counted = set(status.get("counted", []))
        failure: tuple[str, str] | None = (
            tuple(status["failureTarget"]) if "failureTarget" in status else None
        )
        for pod in pods:
            if pod["status"]["phase"] == "Failed" and pod["metadata"]["uid"] not in counted:
                counted.add(pod["metadata"]["uid"])
                action, why = _action(job, pod)
                status["failed"] = status.get("failed", 0) + (action != "Ignore")
                if action == "FailJob":
                    failure = ("PodFailurePolicy", why)
        indexes = range(job["spec"].get("completions", 1))
        done = {_index(pod) for pod in pods if pod["status"]["phase"] == "Succeeded"}
        active = [pod for pod in pods if pod["status"]["phase"] not in ENDED]
        limit = job["spec"].get("activeDeadlineSeconds")
        if status.get("failed", 0) > job["spec"].get("backoffLimit", 6):
            failure = failure or (
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            )
        if limit and time.monotonic() - self._started[uid] > limit / self._speed:
            failure = failure or (
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            )
        if failure:
            for pod in active:
                self.delete_pod(pod)
            if not active:
                self._finish(job, status, "Failed", *failure)
                return
            status["failureTarget"] = list(failure)
        elif done >= set(indexes):
            self._finish(job, status, "Complete", "CompletionsReached", "")
            return
        else:
            for index in set(indexes) - done - {_index(pod) for pod in active}:
                self._create_pod(job, index)
        new = {**status, "active": len(active), "succeeded": len(done), "counted": sorted(counted)}
        if new != job.get("status"):
            self._write_status(
                job, {"startTime": job.get("status", {}).get("startTime", now()), **new}
            )

    def _finish(self, job: Object, status: Object, kind: str, reason: str, message: str) -> None:
        condition = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": now(),
        }
        self._write_status(
            job, {**status, "active": 0, "conditions": [condition], "completionTime": now()}
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
        if self.quota_error:
            self._event(job, "FailedCreate", f"Error creating: {self.quota_error}")
            return
        template: Any = job["spec"]["template"]
        metadata = {
            "generateName": f"{name}-{index}-",
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

    def _event(self, job: Object, reason: str, message: str) -> None:
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        involved = {
            "kind": "Job",
            "name": name,
            "namespace": namespace,
            "uid": job["metadata"]["uid"],
        }
        body = {
            "metadata": {"name": f"{name}.{reason.lower()}"},
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
        scheduled = [{"type": "PodScheduled", "status": "True"}]
        if "nodeName" not in pod["spec"]:
            patch = {"spec": {"nodeName": "node-1"}, "status": {"conditions": scheduled}}
            pod = self._objects.update("pods", metadata["namespace"], metadata["name"], patch)
        if self.image_error:
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

    def delete_job(self, job: Object) -> None:
        """Marks a Job for deletion; it goes when its pods are gone."""
        self._objects.update(
            "jobs",
            job["metadata"]["namespace"],
            job["metadata"]["name"],
            {"metadata": {"deletionTimestamp": now()}},
        )

    def disrupt(self, pod: Object, reason: str, message: str) -> None:
        """Notes on a pod why the cluster ends it, which its Job then counts as a disruption."""
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": now(),
        }
        metadata = pod["metadata"]
        conditions = [*pod["status"].get("conditions", []), condition]
        self._objects.update(
            "pods", metadata["namespace"], metadata["name"], {"status": {"conditions": conditions}}
        )

    def delete_pod(self, pod: Object, grace_seconds: float | None = None) -> None:
        """Ends a pod with its grace period, on a thread of its own, and takes it out."""
        metadata = pod["metadata"]
        if metadata["uid"] in self._stopping:
            return
        self._stopping.add(metadata["uid"])
        with contextlib.suppress(Refused):
            self._objects.update(
                "pods",
                metadata["namespace"],
                metadata["name"],
                {"metadata": {"deletionTimestamp": now()}},
            )
        grace = (
            grace_seconds
            if grace_seconds is not None
            else pod["spec"].get("terminationGracePeriodSeconds", 30)
        )
        threading.Thread(target=self._end_pod, args=(pod, grace), daemon=True).start()

    def _end_pod(self, pod: Object, grace: float) -> None:
        metadata = pod["metadata"]
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
            job = self._objects.get("jobs", metadata["namespace"], owner["name"])
            status = job.get("status", {})
            is_over = (
                "deletionTimestamp" in job["metadata"]
                or status.get("conditions")
                or "failureTarget" in status
            )
            if is_over or metadata["uid"] in status.get("counted", []):
                return
            time.sleep(0.01)


def _conditions(job: Object) -> set[str]:
    return {
        item["type"]
        for item in job.get("status", {}).get("conditions", [])
        if item["status"] == "True"
    }


def _index(pod: Object) -> int:
    return int(pod["metadata"]["annotations"][INDEX])


def _action(job: Object, pod: Object) -> tuple[str, str]:
    """What the Job's podFailurePolicy prescribes for a pod that failed, and why."""
    status = pod["status"]
    conditions = {
        item["type"] for item in status.get("conditions", []) if item.get("status") == "True"
    }
    [container] = status.get("containerStatuses") or [{}]
    ended = (container.get("state") or {}).get("terminated") or {}
    for number, rule in enumerate(job["spec"].get("podFailurePolicy", {}).get("rules", [])):
        if any(item["type"] in conditions for item in rule.get("onPodConditions", [])):
            return rule["action"], f"pod condition matching rule {number}"
        if (on := rule.get("onExitCodes")) and ended.get("exitCode"):
            is_in = ended["exitCode"] in on["values"]
            if is_in == (on["operator"] == "In"):
                return rule["action"], (
                    f"Container {container['name']} for pod {pod['metadata']['namespace']}/"
                    f"{pod['metadata']['name']} failed with exit code {ended['exitCode']} matching "
                    f"{rule['action']} rule at index {number}"
                )
    return "Count", ""
