"""Ends that Kueue brings about, in a queue of its own for each."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.kubernetes_ends.anywhere import ONCE, SECONDS
from benchmarks.kubernetes_ends.stage import End, Stage
from dolly_assets_tests.kubernetes.cluster import QUEUE
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.kubernetes.real import GPU, IMAGE
from dolly_assets_tests.kubernetes.real_hand import RealHand

GROUP, VERSION = "kueue.x-k8s.io", "v1beta2"
FLAVOR, LOCAL, URGENT = "dolly-tests", "trainings", "dolly-tests-urgent"
PRIORITY = f"{GROUP}/priority-class"


class Queue:
    """A ClusterQueue for the GPUs of a few pods, and its LocalQueue in the hand's namespace."""

    def __init__(self, stage: Stage[RealHand], *, gpus: int = 1, is_local: bool = True) -> None:
        from kubernetes import client

        self.hand = stage.hand
        self.name = self.hand.cluster.namespace
        self._api: Any = client.CustomObjectsApi(self.hand.cluster.core.api_client)
        self._ensure("resourceflavors", {"metadata": {"name": FLAVOR}, "spec": {}})
        self._ensure("workloadpriorityclasses", {"metadata": {"name": URGENT}, "value": 1000})
        quotas = {"cpu": 100, "memory": "100Gi", "ephemeral-storage": "100Gi", GPU: gpus}
        resources = [{"name": name, "nominalQuota": quota} for name, quota in quotas.items()]
        group = {
            "coveredResources": list(quotas),
            "flavors": [{"name": FLAVOR, "resources": resources}],
        }
        spec = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.name}},
            "resourceGroups": [group],
            "preemption": {"withinClusterQueue": "LowerPriority"},
        }
        self._ensure("clusterqueues", {"metadata": {"name": self.name}, "spec": spec})
        if is_local:
            self.open()

    def _ensure(self, plural: str, body: Mapping[str, Any]) -> None:
        """Create an object of the cluster unless it is there."""
        from kubernetes import client

        try:
            self._api.create_cluster_custom_object(GROUP, VERSION, plural, _kind(plural, body))
        except client.ApiException as error:
            if error.status != 409:
                raise

    def open(self) -> None:
        """Create the LocalQueue."""
        body = {"metadata": {"name": LOCAL}, "spec": {"clusterQueue": self.name}}
        self._api.create_namespaced_custom_object(
            GROUP, VERSION, self.name, "localqueues", _kind("localqueues", body)
        )

    def stop(self, policy: str) -> None:
        """Hold it (`Hold`), drain it (`HoldAndDrain`) or open it again (`None`)."""
        body = {"spec": {"stopPolicy": policy}}
        self._api.patch_cluster_custom_object(GROUP, VERSION, "clusterqueues", self.name, body)

    def activate(self, *, is_active: bool) -> None:
        """Set whether the training's workload may be admitted."""
        found = self._api.list_namespaced_custom_object(GROUP, VERSION, self.name, "workloads")
        for item in found["items"]:
            name, body = item["metadata"]["name"], {"spec": {"active": is_active}}
            self._api.patch_namespaced_custom_object(
                GROUP, VERSION, self.name, "workloads", name, body
            )

    def occupy(self, **labels: str) -> Callable[[], object]:
        """Have another Job take its GPU; return what removes it."""
        from kubernetes import client

        limits = {GPU: "1", "cpu": "100m", "memory": "50Mi"}
        container = {"name": "other", "image": IMAGE, "command": ["sleep", "1000"]}
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{**container, "resources": {"limits": limits}}],
        }
        metadata = {"name": "other", "labels": {QUEUE: LOCAL, **labels}}
        job = {"metadata": metadata, "spec": {"template": {"spec": pod}, "suspend": True}}
        batch = client.BatchV1Api(self.hand.cluster.core.api_client)
        batch.create_namespaced_job(self.name, job)
        return lambda: batch.delete_namespaced_job(
            "other", self.name, propagation_policy="Background"
        )

    def is_occupied(self) -> bool:
        """Whether that Job runs."""
        pods = self.hand.cluster.running()
        return any(pod.spec.containers[0].name == "other" for pod in pods)


def _kind(plural: str, body: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {
        "resourceflavors": "ResourceFlavor",
        "workloadpriorityclasses": "WorkloadPriorityClass",
        "clusterqueues": "ClusterQueue",
        "localqueues": "LocalQueue",
    }
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kinds[plural], **body}


def queued(**options: Any) -> dict[str, Any]:
    """Return the options of a training in the queue."""
    config = {"job_metadata": {"labels": {QUEUE: LOCAL}}}
    return {"compute": {**options, "kubernetes": {"config": config}}}


def admitted(stage: Stage[RealHand]) -> str:
    """Train in a queue that has room."""
    Queue(stage)
    training = stage.training(**queued())
    stage.now()
    training.start()
    stage.is_back(training, epoch=1, times=1)
    return stage.completes(training)


def _waiting(
    stage: Stage[RealHand], text: str, remove: Callable[[], object], training: Directed
) -> str:
    """Start a training that waits until its cause is removed."""
    stage.now()
    training.start()
    stage.hears(text)
    remove()
    stage.removed = time.monotonic()
    stage.is_back(training, epoch=1, times=1)
    return stage.completes(training)


def behind_another(stage: Stage[RealHand]) -> str:
    """Wait for the GPU of another Job."""
    queue = Queue(stage)
    remove = queue.occupy()
    stage.wait(queue.is_occupied)
    return _waiting(stage, "insufficient unused quota", remove, stage.training(**queued()))


def on_hold(stage: Stage[RealHand]) -> str:
    """Start while the queue is on hold."""
    queue = Queue(stage)
    queue.stop("Hold")
    remove = lambda: queue.stop("None")  # noqa: E731 it is passed on
    return _waiting(
        stage,
        r"is (stopped|inactive)",  # Kueue says either
        remove,
        stage.training(**queued()),
    )


def no_queue(stage: Stage[RealHand]) -> str:
    """Name a LocalQueue that is created later."""
    queue = Queue(stage, is_local=False)
    return _waiting(stage, "doesn't exist", queue.open, stage.training(**queued()))


def impossible(stage: Stage[RealHand]) -> str:
    """Request more than the queue ever has."""
    Queue(stage)
    training = stage.training(**queued(nodes=2), settings={"queue_minutes": SECONDS / 60})
    training.start()
    stage.wait(stage.hand.cluster.jobs)
    stage.happened = time.monotonic() + SECONDS
    return stage.end(training)


def preempted(stage: Stage[RealHand]) -> str:
    """Let a Job of higher priority take the GPU for a while."""
    queue = Queue(stage)
    training = stage.in_epoch_2(**queued())
    stage.now()
    remove = queue.occupy(**{PRIORITY: URGENT})
    stage.wait(queue.is_occupied)
    stage.hears("in the queue")
    remove()
    stage.removed = time.monotonic()
    return stage.resumes(training)


def evicted(stage: Stage[RealHand]) -> str:
    """Drain the queue, and open it again."""
    queue = Queue(stage)
    training = stage.in_epoch_2(**queued())
    stage.now()
    queue.stop("HoldAndDrain")
    stage.hears("in the queue")
    queue.stop("None")
    stage.removed = time.monotonic()
    return stage.resumes(training)


def deactivated(stage: Stage[RealHand]) -> str:
    """Deactivate the workload, and activate it again."""
    queue = Queue(stage)
    training = stage.in_epoch_2(**queued())
    stage.now()
    queue.activate(is_active=False)
    stage.hears("deactivated")
    queue.activate(is_active=True)
    stage.removed = time.monotonic()
    return stage.resumes(training)


WAITS = r"is waiting.*: in the queue trainings"
ENDS: list[End[RealHand]] = [
    End("Kueue: admitted", admitted, r"^done$", r" runs on "),
    End("Kueue: behind another Job", behind_another, r"^done$", WAITS + r".*insufficient unused"),
    End("Kueue: on hold", on_hold, r"^done$", WAITS + r".*is (stopped|inactive)"),
    End("Kueue: no such queue", no_queue, r"^done$", WAITS + r".*doesn't exist"),
    End(
        "Kueue: more than its quota", impossible, r"^failed$", r"has waited for 8 s .*insufficient"
    ),
    End("Kueue: preempted", preempted, ONCE, WAITS),
    End("Kueue: queue drained", evicted, ONCE, WAITS),
    End("Kueue: deactivated", deactivated, ONCE, WAITS + r".*deactivated"),
]
