"""Images are pinned by the digests that their registry has; a server on this machine is one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.pin import DEPLOY, images, pin, registry_digest
from dolly_assets.core.errors import ConfigurationError

DIGEST = f"sha256:{'ab' * 32}"
FILES = {
    "compose.yaml": "services:\n  a:\n    image: postgres:15\n  b:\n    image: own:${VERSION}\n",
    "values.yaml": 'image:\n  repository: docker.io/library/busybox\n  tag: "1.28"\n  more: 1\n',
    "one.Dockerfile": "ARG PYTHON_IMAGE=python:3.11\nFROM ${PYTHON_IMAGE}\n",
    "job.yaml": "image: registry.example.com/dolly/worker:0.2.0\n",
    "again.yaml": f"image: postgres:15@sha256:{'cd' * 32}\n",
}


@pytest.fixture
def registry() -> Iterator[str]:
    """Gives the token `t` to everybody, and knows one image, `team/image:1`."""

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/token?service=here&scope=repository%3Ateam%2Fimage%3Apull"
            self._send(200, {}, json.dumps({"token": "t"}).encode())

        def do_HEAD(self) -> None:
            if self.headers["Authorization"] != "Bearer t":
                realm = f"http://127.0.0.1:{server.server_port}/token"
                scope = "repository:team/image:pull"
                challenge = f'Bearer realm="{realm}",service="here",scope="{scope}"'
                self._send(401, {"WWW-Authenticate": challenge})
            elif self.path != "/v2/team/image/manifests/1" or "index" not in self.headers["Accept"]:
                self._send(404, {})
            else:
                self._send(200, {"Docker-Content-Digest": DIGEST})

        def _send(self, code: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_registry_is_asked_as_docker_asks_it(registry: str) -> None:
    assert registry_digest(f"{registry}/team/image", "1") == DIGEST
    with pytest.raises(ConfigurationError, match="answered 404: check the image's name and tag"):
        registry_digest(f"{registry}/team/image", "2")


def test_every_image_of_others_gets_its_digest_and_nothing_else_changes(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    pinned = pin(tmp_path, lambda name, tag: DIGEST)
    assert sorted(pinned) == [
        f"docker.io/library/busybox:1.28@{DIGEST}",
        f"postgres:15@{DIGEST}",
        f"python:3.11@{DIGEST}",
    ]
    changed = {name: (tmp_path / name).read_text() for name in FILES}
    assert changed == {
        **FILES,
        "compose.yaml": FILES["compose.yaml"].replace("postgres:15", f"postgres:15@{DIGEST}"),
        "values.yaml": FILES["values.yaml"].replace("1.28", f"1.28@{DIGEST}"),
        "one.Dockerfile": FILES["one.Dockerfile"].replace("python:3.11", f"python:3.11@{DIGEST}"),
        "again.yaml": f"image: postgres:15@{DIGEST}\n",
    }
    assert pin(tmp_path, lambda name, tag: DIGEST) == pinned


def test_what_is_deployed_names_its_images_where_they_are_found() -> None:
    names = {image.name for image in images(DEPLOY)}
    assert names == {
        "docker.io/library/busybox",
        "docker.io/library/postgres",
        "docker.io/vllm/vllm-openai",
        "quay.io/minio/minio",
        "nvidia/cuda",
        "postgres",
        "python",
        "quay.io/oauth2-proxy/oauth2-proxy",
    }


def test_a_registry_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("image: 127.0.0.1:1/team/image:1\n")
    with pytest.raises(ConfigurationError, match="the registry cannot be reached"):
        pin(tmp_path, registry_digest)
    assert (tmp_path / "job.yaml").read_text() == "image: 127.0.0.1:1/team/image:1\n"
