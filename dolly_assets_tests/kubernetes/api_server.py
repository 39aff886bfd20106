"""The Kubernetes API of the stand-in cluster over HTTP, as far as the client and our code use it.

It knows objects and logs; what becomes of them is the controller's and the node's business. Faults
are scripted on it.
"""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dolly_assets_tests.kubernetes.controller import Controller
from dolly_assets_tests.kubernetes.node import Log, Node
from dolly_assets_tests.kubernetes.objects import KINDS, Object, Objects, Refused

PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[a-z0-9.]+)/v1)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>status|log))?"
)
PENDING = re.compile(
    r"/apis/visibility\.kueue\.x-k8s\.io/v1beta2/namespaces/(?P<namespace>[^/]+)/localqueues/(?P<queue>[^/]+)"
    r"/pendingworkloads"
)
WORKLOADS = re.compile(r"/apis/kueue\.x-k8s\.io/v1beta2/namespaces/(?P<namespace>[^/]+)/workloads")
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
PAUSE = 0.05
VERSION = {"major": "1", "minor": "35", "gitVersion": "v1.35.0"}
VERSION |= dict.fromkeys(
    ("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "platform"), "stand-in"
)


@dataclass
class Fault:
    """Requests that match are answered with a status instead, a number of times."""

    status: int
    verb: str | None
    plural: str | None
    times: float

    def hits(self, verb: str, plural: str) -> bool:
        if self.times <= 0 or self.verb not in (None, verb) or self.plural not in (None, plural):
            return False
        self.times -= 1
        return True


class ApiServer:
    """Serves on a free port of the loopback.

    Attributes:
        may: Decides on verb, resource (`pods/log`) and namespace; what it forbids is answered with
            403.
        admit: Raises `Refused` for an object that an admission webhook would not let in, or changes
            it.
        pending: The workloads that Kueue lists for a namespace and a local queue; None where there
            is no Kueue.
        workloads: The Workloads of Kueue for a label selector, likewise.
        calls: Every request so far: verb and resource.
    """

    def __init__(self, objects: Objects, controller: Controller, node: Node) -> None:
        self.objects, self.controller, self.node = objects, controller, node
        self.may: Callable[[str, str, str], bool] = lambda _verb, _resource, _namespace: True
        self.admit: Callable[[str, Object], None] = lambda _plural, _body: None
        self.pending: Callable[[str, str], list[Object]] | None = None
        self.workloads: Callable[[str], list[Object]] | None = None
        self.calls: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        self.streams = 0  # raised to cut those that are open
        self.log_streams = 0
        self.log_ends = 0  # raised to end them in order
        self.log_stalls = 0  # raised to have them say nothing more
        server = self

        class Bound(_Handler):
            api = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._http.daemon_threads = True
        threading.Thread(
            target=self._http.serve_forever, args=(PAUSE,), name="api", daemon=True
        ).start()

    @property
    def url(self) -> str:
        """Where the API is served."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        """Stops serving."""
        self.streams += 1
        self.log_streams += 1
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class's name
        pass

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError, socket.timeout):
            super().handle_one_request()

    def do_GET(self) -> None:
        self._answer("get")

    def do_POST(self) -> None:
        self._answer("create")

    def do_PATCH(self) -> None:
        self._answer("patch")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def _answer(self, verb: str) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            if parts.path.rstrip("/") == "/version":
                self._send(200, VERSION)
            elif parts.path == REVIEW:
                self._review(body)
            elif self.api.pending and (match := PENDING.fullmatch(parts.path)):
                self._pending(self.api.pending, **match.groupdict())
            elif self.api.workloads and (match := WORKLOADS.fullmatch(parts.path)):
                self._let_in("list", "workloads", match["namespace"])
                found = self.api.workloads(query["labelSelector"])
                self._send(200, {"kind": "WorkloadList", "items": found})
            elif match := PATH.fullmatch(parts.path):
                self._resource(verb, match.groupdict(), query, body)
            else:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
        except Refused as refused:
            self._refuse(refused)

    def _refuse(self, refused: Refused) -> None:
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": str(refused),
        }
        status |= {"reason": refused.reason, "code": refused.code}
        self._send(refused.code, {**status, "details": {"causes": refused.causes}})

    def _review(self, body: Object) -> None:
        asked = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked.get("resource"), asked.get("subresource"))))
        is_allowed = self.api.may(asked["verb"], resource, asked.get("namespace", ""))
        self._send(201, {**body, "status": {"allowed": is_allowed}})

    def _pending(
        self, pending: Callable[[str, str], list[Object]], namespace: str, queue: str
    ) -> None:
        self._let_in("get", "localqueues/pendingworkloads", namespace)
        self._send(
            200, {"kind": "PendingWorkloadsSummary", "items": pending(namespace, queue) or None}
        )

    def _let_in(self, verb: str, resource: str, namespace: str, *, can_fail: bool = True) -> None:
        """Notes a request; refuses it by the script of faults, or for want of rights."""
        with self.api.lock:
            self.api.calls.append((verb, resource))
            faults = self.api.faults if can_fail else []
            fault = next((item for item in faults if item.hits(verb, resource)), None)
        if fault:
            raise Refused(fault.status, _reason(fault.status), f"scripted: {fault.status}")
        if not self.api.may(verb, resource, namespace):
            raise Refused(
                403,
                "Forbidden",
                f'{resource} is forbidden: User cannot {verb} resource "{resource}"',
            )

    def _resource(
        self, verb: str, path: dict[str, str | None], query: dict[str, str], body: Object
    ) -> None:
        plural, namespace, name = path["plural"] or "", path["namespace"] or "", path["name"]
        if plural == "namespaces":
            name = name or namespace or None
        if plural not in KINDS:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        if verb == "get" and not name:
            verb = "watch" if query.get("watch") in ("true", "True", "1") else "list"
        if verb == "delete" and not name:
            verb = "deletecollection"
        resource = f"{plural}/{path['sub']}" if path["sub"] else plural
        self._let_in(verb, resource, namespace, can_fail="dryRun" not in query)
        if path["sub"] == "log":
            self._log(self.api.objects.get("pods", namespace, name or ""), query)
        elif verb == "list":
            items = [
                item for item in self.api.objects.list(plural, namespace) if _selected(item, query)
            ]
            api_version, kind = KINDS[plural]
            metadata = {"resourceVersion": str(self.api.objects.version)}
            self._send(
                200,
                {
                    "kind": f"{kind}List",
                    "apiVersion": api_version,
                    "metadata": metadata,
                    "items": items,
                },
            )
        elif verb == "watch":
            self._watch(plural, namespace, query)
        elif verb == "create":
            self.api.admit(plural, body)
            is_real = "dryRun" not in query
            self._send(201, self.api.objects.create(plural, namespace, body) if is_real else body)
        elif verb == "get":
            self._send(200, self.api.objects.get(plural, namespace, name or ""))
        elif verb == "patch":
            self._send(200, self.api.objects.update(plural, namespace, name or "", body))
        else:
            self._delete(plural, namespace, name or "", {**body, **query})

    def _delete(self, plural: str, namespace: str, name: str, options: dict[str, Any]) -> None:
        found = self.api.objects.get(plural, namespace, name)
        if plural == "pods":
            grace = options.get("gracePeriodSeconds")
            self.api.controller.delete_pod(found, float(grace) if grace is not None else None)
        elif plural == "jobs":
            self.api.controller.delete_job(found, options.get("propagationPolicy", "Orphan"))
        else:
            self.api.objects.remove(plural, namespace, name)
        self._send(200, found)

    def _watch(self, plural: str, namespace: str, query: dict[str, str]) -> None:
        since = int(query.get("resourceVersion") or 0) or self.api.objects.version
        ends = time.monotonic() + float(query.get("timeoutSeconds") or 60)
        streams = self.api.streams
        with contextlib.suppress(Refused):
            self._begin_stream()
            while time.monotonic() < ends and streams == self.api.streams:
                with self.api.objects.changed:
                    changes = list(self.api.objects.changes(plural, since))
                    if not changes:
                        self.api.objects.changed.wait(PAUSE)
                for change in changes:
                    since = change.version
                    in_namespace = namespace in ("", change.object["metadata"].get("namespace", ""))
                    if in_namespace and _selected(change.object, query):
                        self._chunk(
                            json.dumps({"type": change.type, "object": change.object}).encode()
                            + b"\n"
                        )
            self._chunk(b"")
            return
        gone = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": "Expired",
            "code": 410,
        }
        self._chunk(
            json.dumps({"type": "ERROR", "object": {**gone, "message": "too old"}}).encode() + b"\n"
        )
        self._chunk(b"")

    def _log(self, pod: Object, query: dict[str, str]) -> None:
        log = self.api.node.logs.get(pod["metadata"]["uid"])
        if log is None:
            name = pod["metadata"]["name"]
            raise Refused(
                400,
                "BadRequest",
                f'container in pod "{name}" is waiting to start: ContainerCreating',
            )
        after = time.time() - float(query["sinceSeconds"]) if "sinceSeconds" in query else 0.0
        lines = [item for item in log.lines if _seconds(item[0]) >= after]
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"]) :]
        has_times = query.get("timestamps") in ("true", "True")
        self._begin_stream("text/plain")
        if query.get("follow") in ("true", "True"):
            self._follow_log(log, len(log.lines) - len(lines), has_times)
        else:
            for line in lines:
                self._chunk(_log_line(line, has_times))
        self._chunk(b"")

    def _follow_log(self, log: Log, position: int, has_times: bool) -> None:
        streams, ends, stalls = self.api.log_streams, self.api.log_ends, self.api.log_stalls
        while streams == self.api.log_streams:
            if stalls != self.api.log_stalls:
                time.sleep(PAUSE)
                continue
            if ends != self.api.log_ends:
                self._chunk(b"unable to retrieve container logs for containerd://1\n")
                return
            with log.changed:
                new = log.lines[position:]
                if not new and log.is_complete:
                    return
                if not new:
                    log.changed.wait(PAUSE)
            for line in new:
                self._chunk(_log_line(line, has_times))
            position += len(new)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _begin_stream(self, content: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", content)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _send(self, status: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _selected(item: Object, query: dict[str, str]) -> bool:
    labels = item["metadata"].get("labels", {})
    for term in filter(None, query.get("labelSelector", "").split(",")):
        name, _, value = term.partition("=")
        if name not in labels or (value and labels[name] != value.lstrip("=")):
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = term.partition("=")
        found: Any = item
        for key in path.split("."):
            found = found.get(key, "") if isinstance(found, dict) else ""
        if found != value.lstrip("="):
            return False
    return True


def _log_line(line: tuple[str, bytes], has_times: bool) -> bytes:
    return f"{line[0]} ".encode() + line[1] if has_times else line[1]


def _seconds(timestamp: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(timestamp[:26] + "+00:00").timestamp()


def _reason(status: int) -> str:
    known = {
        409: "Conflict",
        410: "Expired",
        429: "TooManyRequests",
        403: "Forbidden",
        404: "NotFound",
    }
    return known.get(status, "InternalError")
