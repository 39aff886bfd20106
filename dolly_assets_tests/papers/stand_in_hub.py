"""A stand-in for the Hub: repositories in memory, behind the requests of its real client."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_secretsecretsecretsecretsecretsecret"


@dataclass
class Repository:
    """A model repository with its commits, newest first."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b""})
    commits: list[tuple[str, str]] = field(default_factory=lambda: [("0" * 40, "initial commit")])


@dataclass
class Hub:
    """What the stand-in holds, and what it was asked."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    status: int = 0  # answered to every request, if it is set
    commit_status: int = 0  # answered to every commit, if it is set


@contextmanager
def running() -> Iterator[Hub]:
    """A stand-in that listens until the block ends."""
    hub = Hub("")

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 http.server's name
        """Stay silent."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.state.requests.append(f"{method} {path}")
        if self.state.status:
            self._answer(self.state.status, {"error": "refused"})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}" and "/large/" not in path:
            self._answer(401, {"error": "Invalid username or password."})
        else:
            self._answer(*self._reply(method, path, body))

    def _reply(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        hub = self.state
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            hub.repositories[name] = Repository(asked.get("visibility") == "private")
            return 200, {"url": f"{hub.url}/{name}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/large/" in path:
            if method == "PUT":
                hub.large[path.rpartition("/")[2]] = body
            return 200, {}
        name = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2])
        repository = hub.repositories.get(name.removesuffix(".git"))
        if repository is None:
            return 404, {"error": "Repository not found"}
        return self._of_repository(repository, name, path, body)

    def _of_repository(
        self, repository: Repository, name: str, path: str, body: bytes
    ) -> tuple[int, Any]:
        tail = path.partition(name)[2]
        if tail == "":
            files = [{"rfilename": each} for each in repository.files]
            head = repository.commits[0][0]
            return 200, {"id": name, "sha": head, "private": repository.private, "siblings": files}
        if tail.startswith("/commits/"):
            shown = [
                {"id": at, "title": title, "message": "", "authors": []}
                | {"date": "2026-01-01T00:00:00.000Z"}
                for at, title in repository.commits
            ]
            return 200, shown
        if tail.startswith("/tree/"):
            return 200, [
                {"type": "file", "path": each, "size": len(data), "oid": _oid(data)}
                for each, data in repository.files.items()
            ]
        if tail.startswith("/preupload/"):
            files = json.loads(body)["files"]
            return 200, {"files": [self._mode(each) for each in files]}
        if tail.endswith("/objects/batch"):
            objects = json.loads(body)["objects"]
            return 200, {"transfer": "basic", "objects": [self._upload(each) for each in objects]}
        assert tail.startswith("/commit/"), path
        return self._commit(repository, name, body)

    def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
        is_large = file["path"].endswith(".safetensors")
        mode = "lfs" if is_large else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _upload(self, wanted: dict[str, Any]) -> dict[str, Any]:
        place = f"{self.state.url}/large/{wanted['oid']}"
        verify = {"href": f"{self.state.url}/large/verify"}
        return {**wanted, "actions": {"upload": {"href": place, "header": {}}, "verify": verify}}

    def _commit(self, repository: Repository, name: str, body: bytes) -> tuple[int, Any]:
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if self.state.commit_status:
            return self.state.commit_status, {"error": "A commit has happened since."}
        if header.get("parentCommit") != repository.commits[0][0]:
            return 412, {"error": "A commit has happened since."}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.state.large[value["oid"]]
            else:
                del repository.files[value["path"]]
        commit = hashlib.sha1(body).hexdigest()
        repository.commits.insert(0, (commit, header["summary"]))
        return 200, {"commitOid": commit, "commitUrl": f"{self.state.url}/{name}/commit/{commit}"}

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(body)


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
