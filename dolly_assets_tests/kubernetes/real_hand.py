"""The same on a real cluster, and what only a real one can be made to do."""

import contextlib
import json
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from dolly_assets.launchers.kubernetes.pods import Pod, ending, has_ended, index_of
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.kubernetes.real import GPU, IMAGE, SMALL, WAIT_SECONDS, RealCluster

FEW_CPUS = {"requests": {"cpu": "100m"}}  # so that many pods have room on small nodes
ABSENT = "absent"  # name of a Secret
URGENT = "dolly-tests-urgent"  # of a priority and its pod
POLICY = "dolly-tests-images"


# Debian: apt-get install libfaketime
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


class RealHand:
    """Disturbs the last pod of the only training in a namespace, its Job, or the cluster."""

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster, self.folder = cluster, cluster.shared()
        self._undo: list[Callable[[], object]] = []
        self._container: dict[str, Any] = {}
        self._env: list[dict[str, str]] = []
        self._volumes: list[dict[str, Any]] = []
        self._image = IMAGE

    def training(self, **options: Any) -> Directed:
        container = {"resources": FEW_CPUS, **self._container, **options.pop("container", {})}
        settings = {**self.cluster.settings(self.folder, **container), "image": self._image}
        settings |= options.pop("settings", {})
        config = settings["config"]
        config["pod_spec_config"]["volumes"] += self._volumes
        config["container_config"]["env"] += self._env
        config["container_config"]["volume_mounts"] += [
            {"name": volume["name"], "mount_path": f"/{volume['name']}"} for volume in self._volumes
        ]
        compute = {**SMALL, **options.pop("compute", {})}
        return Directed(self.folder, self.cluster, settings, compute, **options)  # pyright: ignore[reportArgumentType]

    def workers(self) -> list[Pod]:
        """The pods of trainings."""
        return [pod for pod in self.cluster.pods() if pod.spec.containers[0].name == "worker"]

    def last(self) -> Pod:
        """The pod of the highest index that runs and is not ending."""
        running = [pod for pod in self.workers() if pod.status.phase == "Running"]
        return max((pod for pod in running if not pod.metadata.deletion_timestamp), key=index_of)

    @property
    def node(self) -> str:
        """The node of that pod."""
        return self.last().spec.node_name

    def evict(self) -> None:
        self.cluster.evict(self.last())

    def preempt(self) -> None:
        """A pod of higher priority takes all GPUs of the node."""
        from kubernetes import client

        node = self.node
        scheduling = client.SchedulingV1Api(self.cluster.core.api_client)
        urgent = {"metadata": {"name": URGENT}, "value": 1000}
        with contextlib.suppress(client.ApiException):  # it is there already
            scheduling.create_priority_class(urgent)
        gpus = self.cluster.core.read_node(node).status.allocatable[GPU]
        self._occupy(node, int(gpus), priorityClassName=URGENT)

    def _occupy(self, node: str, gpus: int, **spec: Any) -> None:
        """Has another pod take GPUs of a node."""
        name = f"other-{node}"
        container = {"name": "other", "image": IMAGE, "command": ["sleep", "1000"]}
        pod = {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "containers": [{**container, "resources": {"limits": {GPU: str(gpus)}}}],
            **spec,
        }
        core, namespace = self.cluster.core, self.cluster.namespace
        core.create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": pod})
        self._undo.append(lambda: core.delete_namespaced_pod(name, namespace))

    def hold(self) -> None:
        for node in self.cluster.core.list_node().items:
            gpus = int(node.status.allocatable.get(GPU, 0))
            if gpus:
                self._occupy(node.metadata.name, gpus)
        self.cluster.wait(lambda: all(pod.status.phase == "Running" for pod in self.cluster.pods()))

    def delete(self, **options: Any) -> None:
        name = self.last().metadata.name
        self.cluster.core.delete_namespaced_pod(name, self.cluster.namespace, **options)

    def force_delete(self) -> None:
        """As `kubectl delete pod --force` does."""
        self.delete(grace_period_seconds=0)

    def drain(self) -> None:
        """As `kubectl drain` does."""
        self.cordon()
        self.evict()

    def cordon(self) -> None:
        node = self.node
        self.cluster.core.patch_node(node, {"spec": {"unschedulable": True}})
        body = {"spec": {"unschedulable": None}}
        self._undo.append(lambda: self.cluster.core.patch_node(node, body))

    def taint(self, node: str, key: str, effect: str = "NoExecute") -> None:
        taints = [{"key": key, "value": "test", "effect": effect}]
        self.cluster.core.patch_node(node, {"spec": {"taints": taints}})
        self._undo.append(lambda: self.cluster.core.patch_node(node, {"spec": {"taints": None}}))

    def on_node(self, command: str, undo: str = "") -> str:
        """Has a command of the cluster's program disturb the node; returns its name."""
        node = self.node
        if undo:
            self._undo.append(lambda: self.cluster.command(undo, node))
        self.cluster.command(command, node)
        return node

    def reboot(self) -> None:
        self.on_node("reboot")

    def lose(self) -> None:
        node = self.on_node("crash", undo="node")
        self.cluster.core.delete_node(node)

    def silence(self) -> None:
        self.on_node("cut", undo="join")

    def answer(self) -> None:
        self.release()

    def kill_control_plane(self, *programs: str) -> None:
        """Kills programs at once; `release` starts them again.

        The cluster's folder has their ids in `run/PROGRAM.pid`.
        """
        for program in programs:
            file = self.cluster.folder / "run" / f"{program}.pid"
            process = psutil.Process(int(file.read_text()))
            process.kill()
            process.wait(WAIT_SECONDS)
            file.unlink()  # its number may soon be another process's
        self._undo.append(lambda: self.cluster.command("up"))

    def compact(self) -> None:
        """Kills the API server, and removes from etcd what was before, so that no watch resumes."""
        self.kill_control_plane("kube-apiserver")
        etcd = psutil.Process(int((self.cluster.folder / "run" / "etcd.pid").read_text()))
        options = etcd.cmdline()
        url = options[options.index("--listen-client-urls") + 1]
        status = _of_etcd(url, "maintenance/status", {})
        revision = status["header"]["revision"]
        _of_etcd(url, "kv/compaction", {"revision": revision, "physical": True})
        self.release()

    def delete_namespace(self) -> None:
        self.cluster.core.delete_namespace(self.cluster.namespace)

    def small_disk(self) -> str:
        """Gives pods a folder of a few megabytes; its path."""
        volume = {"name": "small", "empty_dir": {"medium": "Memory", "size_limit": "4Mi"}}
        self._volumes = [volume]
        return "/small"

    def shift_clocks(self, minutes: int) -> None:
        """Has pods read another time than this machine and the control plane."""
        self._env = [
            {"name": "LD_PRELOAD", "value": str(FAKETIME)},
            {"name": "FAKETIME", "value": f"{minutes:+}m"},
        ]

    def take_memory(self, training: Directed) -> None:
        training.fail(2, "memory")

    def take_disk(self, training: Directed) -> None:
        training.fail(2, "disk")

    def delete_job(self, policy: str) -> None:
        self.cluster.delete_job(policy)

    def patch_job(self, spec: Mapping[str, Any]) -> None:
        from kubernetes import client

        batch = client.BatchV1Api(self.cluster.core.api_client)
        [job] = self.cluster.jobs()
        batch.patch_namespaced_job(job.metadata.name, self.cluster.namespace, {"spec": spec})

    def exceed_quota(self) -> None:
        core, namespace = self.cluster.core, self.cluster.namespace
        body = {"metadata": {"name": "gpus"}, "spec": {"hard": {f"requests.{GPU}": "0"}}}
        core.create_namespaced_resource_quota(namespace, body)
        self._undo.append(lambda: core.delete_namespaced_resource_quota("gpus", namespace))
        self.cluster.wait(
            lambda: core.read_namespaced_resource_quota("gpus", namespace).status.hard
        )

    def limit_range(self) -> None:
        core, namespace = self.cluster.core, self.cluster.namespace
        limit = {"type": "Container", "max": {"memory": "100Mi"}}
        body = {"metadata": {"name": "small"}, "spec": {"limits": [limit]}}
        core.create_namespaced_limit_range(namespace, body)
        self._undo.append(lambda: core.delete_namespaced_limit_range("small", namespace))

    def break_images(self) -> None:
        self._image = "registry.invalid/worker:1"
        self._undo.append(self._mend_images)

    def _mend_images(self) -> None:
        """As if the registry had them now."""
        for pod in self.workers():
            body = {"spec": {"containers": [{"name": "worker", "image": IMAGE}]}}
            self.cluster.core.patch_namespaced_pod(pod.metadata.name, self.cluster.namespace, body)

    def break_mounts(self) -> None:
        self._volumes = [{"name": ABSENT, "secret": {"secret_name": ABSENT}}]
        body = {"metadata": {"name": ABSENT}}
        self._undo.append(
            lambda: self.cluster.core.create_namespaced_secret(self.cluster.namespace, body)
        )

    def break_starts(self) -> None:
        self._container = {"command": ["no-such-program"]}

    def deny(self) -> None:
        """A policy of the cluster refuses Jobs in the namespace."""
        from kubernetes import client

        policies = client.AdmissionregistrationV1Api(self.cluster.core.api_client)
        rule = {
            "apiGroups": ["batch"],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["jobs"],
        }
        denial = {"expression": "false", "message": "images come from here only"}
        policy = {"matchConstraints": {"resourceRules": [rule]}, "validations": [denial]}
        there = {"matchLabels": {"kubernetes.io/metadata.name": self.cluster.namespace}}
        binding = {
            "policyName": POLICY,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": there},
        }
        metadata = {"name": POLICY}
        policies.create_validating_admission_policy({"metadata": metadata, "spec": policy})
        policies.create_validating_admission_policy_binding({"metadata": metadata, "spec": binding})
        self.cluster.wait(self._is_denied)  # the API server takes a moment to know its policies
        self._undo += [
            lambda: policies.delete_validating_admission_policy(POLICY),
            lambda: policies.delete_validating_admission_policy_binding(POLICY),
        ]

    def _is_denied(self) -> bool:
        """Whether a Job would be refused."""
        from kubernetes import client

        pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
        job = {"metadata": {"name": "a"}, "spec": {"template": {"spec": pod}}}
        batch = client.BatchV1Api(self.cluster.core.api_client)
        try:
            batch.create_namespaced_job(self.cluster.namespace, job, dry_run="All")
        except client.ApiException:
            return True
        return False

    def release(self) -> None:
        while self._undo:
            self._undo.pop()()

    def pods(self) -> int:
        return len(self.workers())

    def jobs(self) -> int:
        return sum(
            not ending(job) and not job.metadata.deletion_timestamp for job in self.cluster.jobs()
        )

    def gpus_booked(self) -> int:
        """GPUs of trainings' pods that have a node and have not ended."""
        return sum(
            int((pod.spec.containers[0].resources.limits or {}).get(GPU, 0))
            for pod in self.workers()
            if pod.spec.node_name and not has_ended(pod)
        )

    def close(self) -> None:
        """Ends what disturbs the cluster, and waits until its nodes answer."""
        self.release()

        def are_ready() -> bool:
            nodes = self.cluster.core.list_node().items
            return all(
                item.status == "True"
                for node in nodes
                for item in node.status.conditions
                if item.type == "Ready"
            )

        self.cluster.wait(are_ready)


def _of_etcd(url: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return etcd's answer to a request, by its gateway for JSON."""
    request = urllib.request.Request(f"{url}/v3/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
        return json.load(answer)
