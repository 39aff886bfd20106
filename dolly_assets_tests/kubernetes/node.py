"""The node of the stand-in cluster: runs the first container of each pod as a process.

Paths under a container's volume mounts, and host names behind a headless Service, are rewritten in
its environment: every pod has folders of its own, and all pods share this machine's loopback.
"""

import base64
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from dolly_assets_tests.kubernetes.objects import Object, Objects, Refused, now, with_condition

INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")
TEMPORARY = "/tmp"
VARIABLE = re.compile(r"\$\((\w+)\)|\$\$(?=\()")
HOST_AND_PORT = re.compile(r"(?P<job>[a-z0-9-]+)-\d+\.(?P<service>[a-z0-9.-]+):(?P<port>\d+)")


@dataclass
class Log:
    """What a container has written, with the time of each line."""

    lines: list[tuple[str, bytes]] = field(default_factory=list)
    is_complete: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, line: bytes) -> None:
        with self.changed:
            self.lines.append((datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z"), line))
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.is_complete = True
            self.changed.notify_all()


class Node:
    """Runs pods. `programs` replaces the command of an image, by the image's name."""

    def __init__(self, objects: Objects, folder: Path, speed: float) -> None:
        self._objects, self._folder, self._speed = objects, folder, speed
        self.programs: dict[str, Sequence[str]] = {}
        self.logs: dict[str, Log] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.silent: set[str] = set()  # pods of which nobody hears
        self.start_error: str | None = None
        self._killed_for: dict[str, Object] = {}
        self._ports: dict[tuple[str, str], int] = {}

    def start(self, pod: Object) -> None:
        """Starts a pod that was scheduled here."""
        namespace, name, uid = (pod["metadata"][key] for key in ("namespace", "name", "uid"))
        container = pod["spec"]["containers"][0]
        try:
            environment = self._environment(pod, container)
        except Refused as missing:
            waiting = {"reason": "CreateContainerConfigError", "message": str(missing)}
            self._status(pod, containerStatuses=[_container(container, waiting=waiting)])
            return
        if self.start_error is not None:
            ended = {"exitCode": 128, "reason": "StartError", "message": self.start_error}
            self._end(pod, "Failed", {**ended, "finishedAt": now()})
            return
        self.logs[uid] = Log()
        command = self.programs.get(container["image"]) or [
            *container["command"],
            *container.get("args", []),
        ]
        command = [
            sys.executable if word == "python" else _expanded(word, environment) for word in command
        ]
        folder = self._folder / uid
        folder.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes[uid] = process
        running = _container(container, running={"startedAt": now()})
        conditions = with_condition(pod, "ContainersReady", "True")
        conditions = [*conditions, {"type": "Ready", "status": "True"}]
        self._status(
            pod,
            phase="Running",
            containerStatuses=[running],
            startTime=now(),
            conditions=conditions,
        )
        threading.Thread(
            target=self._follow, args=(pod, process), name=f"{namespace}/{name}", daemon=True
        ).start()

    def stop(self, pod: Object, grace_seconds: float) -> None:
        """Ends a pod as a kubelet does: SIGTERM to its first process, later SIGKILL to all."""
        process = self.processes.get(pod["metadata"]["uid"])
        if process and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(grace_seconds / self._speed)
            except subprocess.TimeoutExpired:
                self.kill(pod)

    def kill(self, pod: Object, **said: object) -> None:
        """SIGKILL to all processes of a pod; `said` is what its status says otherwise then.

        `exitCode`, `reason` and `message` of the container, `podReason` and `podMessage`.
        """
        self._killed_for[pod["metadata"]["uid"]] = said
        if process := self.processes.get(pod["metadata"]["uid"]):
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in [
                    psutil.Process(process.pid),
                    *psutil.Process(process.pid).children(recursive=True),
                ]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()  # torchrun gives its ranks sessions of their own
            process.wait()

    def _follow(self, pod: Object, process: subprocess.Popen[bytes]) -> None:
        uid, log = pod["metadata"]["uid"], self.logs[pod["metadata"]["uid"]]
        assert process.stdout
        for line in process.stdout:
            log.add(line)
        code = process.wait()
        with contextlib.suppress(
            ProcessLookupError
        ):  # the end of the first process is that of the container
            os.killpg(process.pid, signal.SIGKILL)
        log.end()
        code = code if code >= 0 else 128 - code
        said = dict(self._killed_for.get(uid, {})) if code else {}
        of_pod = {"reason": said.pop("podReason", None), "message": said.pop("podMessage", None)}
        reason = "Error" if code else "Completed"
        ended = {"exitCode": code, "reason": reason, "finishedAt": now(), **said}
        while uid in self.silent:  # its kubelet reports nothing
            time.sleep(0.02)
        self._end(pod, "Failed" if code else "Succeeded", ended, **of_pod)

    def _end(self, pod: Object, phase: str, ended: Object, **of_pod: object) -> None:
        container = pod["spec"]["containers"][0]
        with contextlib.suppress(Refused):
            pod = self._objects.get("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        conditions = with_condition(pod, "Ready", "False", reason="PodFailed")
        ended_pod = {**pod, "status": {"conditions": conditions}}
        self._status(
            pod,
            phase=phase,
            containerStatuses=[_container(container, terminated=ended)],
            conditions=with_condition(ended_pod, "ContainersReady", "False", reason="PodFailed"),
            **of_pod,
        )

    def _status(self, pod: Object, **status: object) -> None:
        metadata = pod["metadata"]
        try:
            found = self._objects.get("pods", metadata["namespace"], metadata["name"])
            if found["metadata"]["uid"] == metadata["uid"] and found["status"]["phase"] not in (
                "Failed",
                "Succeeded",
            ):
                self._objects.update(
                    "pods", metadata["namespace"], metadata["name"], {"status": status}
                )
        except Refused:  # it is gone
            return

    def _environment(self, pod: Object, container: Object) -> dict[str, str]:
        found: dict[str, str] = {}
        namespace = pod["metadata"]["namespace"]
        for source in container.get("envFrom", []):
            for kind, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
                if kind in source:
                    data = self._objects.get(plural, namespace, source[kind]["name"])
                    found.update(_decoded(data))
        for item in container.get("env", []):
            found[item["name"]] = self._value(pod, item, found)
        folders = {
            mount["mountPath"]: self._mounted(pod, mount)
            for mount in container.get("volumeMounts", [])
        }
        if folder := folders.pop(TEMPORARY, None):  # where tests have their files, too
            found["TMPDIR"] = str(folder)
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return {
            **inherited,
            **{name: self._local(pod, value, folders) for name, value in found.items()},
        }

    def _value(self, pod: Object, item: Object, known: dict[str, str]) -> str:
        source = item.get("valueFrom", {})
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            return _decoded(
                self._objects.get("secrets", pod["metadata"]["namespace"], reference["name"])
            )[reference["key"]]
        if "fieldRef" in source:
            path = source["fieldRef"]["fieldPath"]
            if match := re.fullmatch(r"metadata\.annotations\['(.+)'\]", path):
                return pod["metadata"]["annotations"][match[1]]
            return {
                "metadata.name": pod["metadata"]["name"],
                "metadata.uid": pod["metadata"]["uid"],
            }[path]
        return _expanded(item.get("value", ""), known)

    def _mounted(self, pod: Object, mount: Object) -> Path:
        folder = self._folder / pod["metadata"]["uid"] / mount["name"]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _local(self, pod: Object, value: str, folders: dict[str, Path]) -> str:
        for path, folder in folders.items():
            if value == path or value.startswith(f"{path}/"):
                return f"{folder}{value.removeprefix(path)}"
        services = {
            item["metadata"]["name"]
            for item in self._objects.list("services", pod["metadata"]["namespace"])
        }
        match = HOST_AND_PORT.fullmatch(value)
        if match and match["service"].split(".")[0] in services:
            return f"127.0.0.1:{self._port(match['job'], match['port'])}"
        return value

    def _port(self, job: str, port: str) -> int:
        """A free port of this machine for each port of a Job's first pod."""
        if (job, port) not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[job, port] = probe.getsockname()[1]
        return self._ports[job, port]

    def close(self) -> None:
        """Ends all pods."""
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        deadline = time.monotonic() + 5
        while (
            not all(log.is_complete for log in self.logs.values()) and time.monotonic() < deadline
        ):
            time.sleep(0.01)


def _container(container: Object, **state: object) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "state": {"waiting": None, "running": None, "terminated": None, **state},
        "ready": "running" in state,
        "restartCount": 0,
        "imageID": "",
    }


def _expanded(value: str, known: dict[str, str]) -> str:
    return VARIABLE.sub(lambda match: known.get(match[1], match[0]) if match[1] else "$", value)


def _decoded(source: Object) -> dict[str, str]:
    if source["kind"] != "Secret":
        return dict(source.get("data", {}))
    encoded = {
        name: base64.b64decode(value).decode() for name, value in source.get("data", {}).items()
    }
    return {**encoded, **source.get("stringData", {})}
