"""A whole stand-in cluster in this process, and what can happen to it.

    with Cluster(tmp_path) as cluster:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)     # the real client and `dolly` find it
        there cluster.apply({"kind": "Secret", ...})                 # objects that are there
        beforehand cluster.programs["trains:1"] = ["python", "-c", "print('hello')"]   # instead of
        an image's command

        cluster.hold("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")   # pods stay
        pending cluster.release() cluster.break_images("ImagePullBackOff")               # mended by
        release, too cluster.exceed_quota("exceeded quota: gpus, requested: ...")   # the Job
        controller may create no pod cluster.queue("trainings", before=2)                   # Kueue
        suspends Jobs of this queue; admit() lets them go cluster.deny("policy: no root")
        # admission refuses Jobs cluster.evict(pod) / preempt(pod) / lose(pod) / delete(pod) /
        oom_kill(pod) cluster.fail(500, verb="list", plural="pods", times=3) # answers of the API
        cluster.drop_watches() / cut_logs() / forget_history() # what was watched, streamed, is gone
        cluster.forbid("create", "jobs")                       # SelfSubjectAccessReview says no,
        requests get 403

        cluster.pods(), cluster.jobs(), cluster.gpus_booked()
        cluster.wait(lambda: cluster.gpus_booked() == 0)

Pods run as processes of this machine: the first container's command (`python` is this one) with its
environment, Secrets and mounted folders. `speed` divides the cluster's own times: grace periods,
deadlines, time to live.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dolly_assets_tests.kubernetes.api_server import ApiServer, Fault
from dolly_assets_tests.kubernetes.controller import Controller
from dolly_assets_tests.kubernetes.node import Node
from dolly_assets_tests.kubernetes.objects import KINDS, Object, Objects, Refused

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

    def release(self) -> None:
        """Ends hold, break_images and exceed_quota."""
        self.controller.held = self.controller.image_error = self.controller.quota_error = None
        self.controller.wake()

    def queue(self, name: str, before: int | None) -> None:
        """Kueue suspends new Jobs of this queue, and lists them behind this many others, if at all.

        The others are workloads that somebody made by hand, and nothing owns them.
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

        self.api.admit, self.api.pending = admit, pending

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
        """The node of a pod is lost: nothing of it saves anything, and the pod is taken out."""
        self.controller.disrupt(
            pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"
        )
        self.node.kill(pod)
        self.controller.delete_pod(pod, 0)

    def oom_kill(self, pod: Object) -> None:
        """The kernel kills a container for lack of memory."""
        self.node.kill(pod, "OOMKilled")
