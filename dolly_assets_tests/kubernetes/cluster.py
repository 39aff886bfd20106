"""A whole stand-in cluster in this process, and what can happen to it.

    with Cluster(tmp_path) as cluster:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)  # the real client and `dolly` find it
        cluster.apply({"kind": "Secret", ...})  # objects that exist beforehand
        cluster.programs["trains:1"] = ["python", "-c", "print('hello')"]  # an image's command

        # Pods do not start; `release` ends it.
        cluster.hold("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
        cluster.break_images("ImagePullBackOff")
        cluster.break_mounts('secret "missing" not found')
        cluster.break_starts('exec: "python": executable file not found in $PATH')
        cluster.exceed_quota("exceeded quota: gpus, requested: ...")
        cluster.limit_range({"ephemeral-storage": "10Gi"})  # default limits of containers
        cluster.queue("trainings", before=2)  # Kueue suspends Jobs of this queue; `admit` ends it
        cluster.deny("policy: no root")  # admission refuses Jobs

        # What ends pods.
        cluster.evict(pod), cluster.preempt(pod), cluster.lose(pod), cluster.delete(pod)
        cluster.oom_kill(pod), cluster.reboot(pod), cluster.fill_disk(pod)
        # A node that says nothing: its pods are not ready; they are to end; it answers again.
        cluster.silence(pod), cluster.give_up(pod), cluster.answer(pod)

        # The API.
        cluster.fail(500, verb="list", plural="pods", times=3)
        cluster.drop_watches(), cluster.cut_logs(), cluster.forget_history()
        cluster.end_logs(), cluster.stall_logs()
        cluster.forbid("create", "jobs")  # SelfSubjectAccessReview says no, requests get 403

        cluster.pods(), cluster.jobs(), cluster.gpus_booked()
        cluster.wait(lambda: cluster.gpus_booked() == 0)

Pods run as processes of this machine: the first container's command (`python` is this one) with its
environment, Secrets and mounted folders. `speed` divides the cluster's own times: grace periods,
deadlines, time to live.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dolly_assets_tests.kubernetes.api_server import ApiServer, Fault
from dolly_assets_tests.kubernetes.controller import Controller
from dolly_assets_tests.kubernetes.node import Node
from dolly_assets_tests.kubernetes.objects import (
    KINDS,
    Object,
    Objects,
    Refused,
    condition,
    with_condition,
)

NAMESPACE = "dolly"
WAIT_SECONDS = 60
QUEUE = "kueue.x-k8s.io/queue-name"


class Cluster:
    """API server, controller and node. See the module's text."""

    def __init__(self, folder: Path | None = None, *, speed: float = 1.0, gpus: int = 8) -> None:
        self.folder = folder or Path(tempfile.mkdtemp())
        self.objects = Objects()
        self.node = Node(self.objects, self.folder / "pods", speed)
        self.controller = Controller(self.objects, self.node, speed)
        self.api = ApiServer(self.objects, self.controller, self.node)
        self.programs = self.node.programs
        self.apply({"kind": "Namespace", "metadata": {"name": NAMESPACE}})
        capacity = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": str(gpus)}
        self.apply(
            {
                "kind": "Node",
                "metadata": {"name": "node-1"},
                "status": {
                    "capacity": capacity,
                    "allocatable": capacity,
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
        )
        self.kubeconfig = self._write_kubeconfig()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.controller.close()
        self.node.close()
        self.api.close()

    def _write_kubeconfig(self) -> Path:
        path = self.folder / "kubeconfig"
        path.parent.mkdir(parents=True, exist_ok=True)
        named = {"cluster": {"server": self.api.url}}
        context = {"cluster": "stand-in", "user": "tester", "namespace": NAMESPACE}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stand-in", **named}],
            "users": [{"name": "tester", "user": {"token": "a-token"}}],
            "contexts": [{"name": "stand-in", "context": context}],
            "current-context": "stand-in",
        }
        path.write_text(json.dumps(document))
        return path

    def apply(self, body: Object, namespace: str = NAMESPACE) -> Object:
        """Adds an object."""
        plural = next(plural for plural, (_, kind) in KINDS.items() if kind == body["kind"])
        return self.objects.create(plural, namespace, body)

    def pods(self) -> list[Object]:
        """The pods that are there now."""
        return self.objects.list("pods")

    def jobs(self) -> list[Object]:
        """The Jobs that are there now."""
        return self.objects.list("jobs")

    def has_ended(self) -> bool:
        """Whether the only Job has ended."""
        [job] = self.jobs()
        return bool(condition(job, "Complete") or condition(job, "Failed"))

    def gpus_booked(self) -> int:
        """GPUs of pods that have a node and have not ended."""
        return sum(
            int(count)
            for pod in self.pods()
            if "nodeName" in pod["spec"] and pod["status"]["phase"] not in ("Failed", "Succeeded")
            for container in pod["spec"]["containers"]
            for name, count in container.get("resources", {}).get("limits", {}).items()
            if name.endswith("/gpu")
        )

    def running(self) -> list[Object]:
        """The pods that run now."""
        return [
            pod
            for pod in self.pods()
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def log(self, pod: Object) -> str:
        """What a pod has written so far."""
        return b"".join(line for _, line in self.node.logs[pod["metadata"]["uid"]].lines).decode()

    def wait(self, happened: Callable[[], object]) -> None:
        """Returns when it has happened; fails after a minute."""
        ends = time.monotonic() + WAIT_SECONDS
        while not happened():
            assert time.monotonic() < ends, "it never happened"
            with self.objects.changed:
                self.objects.changed.wait(0.05)

    def hold(self, why: str) -> None:
        """New pods are not scheduled."""
        self.controller.held = why

    def break_images(self, reason: str) -> None:
        """New pods get a node, but no image."""
        self.controller.image_error = reason

    def exceed_quota(self, why: str) -> None:
        """The Job controller may create no pods."""
        self.controller.quota_error = why

    def break_mounts(self, why: str) -> None:
        """Volumes are not mounted, which only events of pods say."""
        self.controller.mount_error = why

    def break_starts(self, why: str) -> None:
        """The runtime cannot start containers."""
        self.node.start_error = why

    def limit_range(self, default_limits: dict[str, str]) -> None:
        """A LimitRange gives these limits to containers that have none."""
        self.controller.default_limits = default_limits

    def release(self) -> None:
        """Ends hold, exceed_quota, break_images, break_mounts and break_starts."""
        self.controller.held = self.controller.image_error = self.controller.quota_error = None
        self.controller.mount_error = None
        self.controller.default_limits = {}
        self.node.start_error = None
        self.controller.wake()

    def queue(self, name: str, before: int | None, why: str = "") -> None:
        """Kueue suspends new Jobs of this queue, and lists them behind this many others, if at all.

        `why` is what their Workloads say. The others are workloads that somebody made by hand, and
        nothing owns them.
        """

        def admit(plural: str, body: Object) -> None:
            if plural == "jobs" and body["metadata"].get("labels", {}).get(QUEUE) == name:
                body["spec"]["suspend"] = True

        def pending(namespace: str, queue: str) -> list[Object]:
            if before is None:
                return []
            suspended = [
                job for job in self.objects.list("jobs", namespace) if job["spec"].get("suspend")
            ]
            names = [
                job["metadata"]["name"]
                for job in suspended
                if job["metadata"]["labels"].get(QUEUE) == queue
            ]
            listed = [{}] * before + [
                {"ownerReferences": [{"kind": "Job", "name": name}]} for name in names
            ]
            return [
                {"metadata": metadata, "positionInClusterQueue": place}
                for place, metadata in enumerate(listed)
            ]

        def workloads(selector: str) -> list[Object]:
            reserved = {"type": "QuotaReserved", "status": "False", "reason": "Pending"}
            uids = {job["metadata"]["uid"] for job in self.jobs()}
            is_known = selector.removeprefix("kueue.x-k8s.io/job-uid=") in uids
            status = {"conditions": [{**reserved, "message": why}]}
            return [{"spec": {}, "status": status}] if is_known and why else []

        self.api.admit, self.api.pending, self.api.workloads = admit, pending, workloads

    def admit(self) -> None:
        """Kueue admits what it has suspended."""
        for job in self.jobs():
            self.objects.update(
                "jobs", NAMESPACE, job["metadata"]["name"], {"spec": {"suspend": False}}
            )

    def deny(self, why: str) -> None:
        """An admission webhook refuses Jobs from here on."""

        def admit(plural: str, body: Object) -> None:
            if plural == "jobs":
                raise Refused(
                    403, "Forbidden", f'admission webhook "policy" denied the request: {why}'
                )

        self.api.admit = admit

    def keep_jobs(self, finalizers: Sequence[str] = ("example.com/audit",)) -> None:
        """Jobs that are deleted stay until another controller removes its finalizer."""
        for job in self.jobs():
            patch = {"metadata": {"finalizers": [*finalizers]}}
            self.objects.update("jobs", NAMESPACE, job["metadata"]["name"], patch)
        self.controller.wake()

    def end_namespace(self) -> None:
        """The namespace is being deleted: first its pods; its Jobs may stay for minutes."""
        self.controller.is_ending = True
        why = (
            f"unable to create new content in namespace {NAMESPACE} because it is being terminated"
        )

        def admit(plural: str, body: Object) -> None:
            raise Refused(403, "Forbidden", why, cause="NamespaceTerminating")

        self.api.admit = admit
        for pod in self.running():
            self.controller.delete_pod(pod)

    def forbid(self, verb: str, resource: str) -> None:
        """Requests of this kind are not allowed, besides those forbidden before."""
        before = self.api.may
        self.api.may = lambda *asked: asked[:2] != (verb, resource) and before(*asked)

    def fail(
        self, status: int, *, verb: str | None = None, plural: str | None = None, times: float = 1
    ) -> None:
        """The next requests of this kind are answered with an HTTP status."""
        self.api.faults.append(Fault(status, verb, plural, times))

    def drop_watches(self) -> None:
        """Open watches end, as when the API server restarts."""
        self.api.streams += 1

    def cut_logs(self) -> None:
        """Connections that stream logs are cut."""
        self.api.log_streams += 1

    def end_logs(self) -> None:
        """Streams of logs end in order though their pods run, as when a kubelet restarts."""
        self.api.log_ends += 1

    def stall_logs(self) -> None:
        """Streams of logs stay open, and nothing arrives on them any more."""
        self.api.log_stalls += 1

    def forget_history(self) -> None:
        """Watches that resume from an earlier version get 410."""
        self.objects.forget_history()

    def delete(self, pod: Object, grace_seconds: float | None = None) -> None:
        """Somebody deletes a pod."""
        self.controller.delete_pod(pod, grace_seconds)

    def evict(self, pod: Object) -> None:
        """A pod is evicted: it is asked to stop, and its condition has the reason."""
        self.controller.disrupt(pod, "EvictionByEvictionAPI", "Eviction API: evicting")
        self.controller.delete_pod(pod)

    def preempt(self, pod: Object) -> None:
        """The scheduler takes a pod's place for one of higher priority."""
        self.controller.disrupt(
            pod, "PreemptionByScheduler", "default-scheduler: preempting for a higher priority"
        )
        self.controller.delete_pod(pod)

    def lose(self, pod: Object) -> None:
        """The node of a pod is deleted: nothing of it saves anything, and the pod is taken out."""
        self.controller.disrupt(pod, "DeletionByPodGC", "PodGC: node no longer exists")
        self.node.silent.discard(pod["metadata"]["uid"])
        self.node.kill(pod)
        self.controller.delete_pod(pod, 0)

    def silence(self, pod: Object) -> None:
        """The node of a pod does not answer: the control plane notes that it is not ready."""
        self.node.silent.add(pod["metadata"]["uid"])
        self._ready(pod, "False")

    def give_up(self, pod: Object) -> None:
        """The node has been silent for too long: the pod is to end, which nobody confirms."""
        message = "Taint manager: deleting due to NoExecute taint"
        self.controller.disrupt(pod, "DeletionByTaintManager", message)
        self.controller.delete_pod(pod)

    def answer(self, pod: Object) -> None:
        """The node answers again."""
        self.node.silent.discard(pod["metadata"]["uid"])
        self._ready(pod, "True")

    def _ready(self, pod: Object, status: str) -> None:
        name = pod["metadata"]["name"]
        found = self.objects.get("pods", NAMESPACE, name)
        conditions = with_condition(found, "Ready", status)
        self.objects.update("pods", NAMESPACE, name, {"status": {"conditions": conditions}})

    def oom_kill(self, pod: Object) -> None:
        """The kernel kills a container for lack of memory."""
        self.node.kill(pod, reason="OOMKilled")

    def reboot(self, pod: Object) -> None:
        """The node of a pod has restarted, and its runtime has lost the container."""
        self.node.kill(pod, exitCode=255, reason="Unknown")

    def fill_disk(self, pod: Object) -> None:
        """A pod exceeds its limit of local disk; its kubelet ends it, and notes no disruption."""
        message = "Pod ephemeral local storage usage exceeds the total limit of containers 100Mi. "
        self.node.kill(pod, podReason="Evicted", podMessage=message)
