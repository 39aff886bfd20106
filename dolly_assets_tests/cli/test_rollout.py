"""`dolly rollout` as its CronJob runs it, against an HTTP server in the place of the API server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from dolly_assets.storage import ArtifactStore
from dolly_assets_tests.in_process import dolly, new_variables, refusal

NAME = "demo/champion_model/demo"
PATH = "/apis/apps/v1/namespaces/dolly-serving/deployments/dolly-serving"
COMMAND = ("rollout", NAME, "--deployment", "dolly-serving", "--namespace", "dolly-serving")


class Deployments(ThreadingHTTPServer):
    """One Deployment, which is read and patched as the API server does with a merge patch.

    Attributes:
        annotations: Those of its pod template.
        patches: How often it was patched.
        status: What every request is answered with, if it is not 200.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.annotations: dict[str, str] = {"other": "kept"}
        self.patches, self.status = 0, 200


class Handler(BaseHTTPRequestHandler):
    server: Deployments  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        body: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.patches += 1
        self.server.annotations |= body["spec"]["template"]["metadata"]["annotations"]
        self._answer()

    def _answer(self) -> None:
        status = self.server.status if self.path == PATH else 404
        template = {
            "metadata": {"annotations": self.server.annotations},
            "spec": {"containers": [{"name": "server"}]},
        }
        spec = {"selector": {}, "template": template}
        body = json.dumps({"kind": "Deployment", "metadata": {}, "spec": spec}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 of the base class
        pass


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployments]:
    """The server, to which the kubeconfig leads."""
    server = Deployments()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    entry = {"name": "test"}
    config = {
        "clusters": [{**entry, "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{**entry, "context": {"cluster": "test", "user": "test"}}],
        "users": [{**entry, "user": {}}],
        "current-context": "test",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return new_variables(tmp_path / "home")


def publish(tmp_path: Path, text: str) -> str:
    (tmp_path / "weights").write_text(text)
    store = ArtifactStore(str(tmp_path / "home" / "store"), tmp_path / "home" / "cache")
    return store.publish(NAME, {"weights": tmp_path / "weights"}, kind="champion_model").digest


def test_pods_are_replaced_once_for_each_model(
    api: Deployments, variables: dict[str, str], tmp_path: Path
) -> None:
    first = publish(tmp_path, "1")
    assert f"dolly-serving restarts with {NAME} {first[:12]}\n" in dolly(variables, *COMMAND).stdout
    assert "already" in dolly(variables, *COMMAND).stdout
    assert api.patches == 1
    second = publish(tmp_path, "2")
    assert f"{second[:12]}, {first[:12]} before" in dolly(variables, *COMMAND).stdout
    assert api.annotations == {"other": "kept", "dolly-assets/digest": second}


def test_what_cannot_be_restarted_is_one_sentence(
    api: Deployments, variables: dict[str, str], tmp_path: Path
) -> None:
    assert "has no artifact demo/champion_model/demo" in refusal(variables, *COMMAND)
    publish(tmp_path, "1")
    other = refusal(variables, *COMMAND[:-1], "elsewhere")
    assert "dolly-serving in elsewhere cannot be read and patched: Not Found (404)" in other
    api.status = 403
    assert "Forbidden (403): check --deployment" in refusal(variables, *COMMAND)
    assert api.patches == 0


def test_an_api_server_that_does_not_answer_is_one_sentence(
    api: Deployments, variables: dict[str, str], tmp_path: Path
) -> None:
    publish(tmp_path, "1")
    api.shutdown()
    api.server_close()
    said = refusal(variables, *COMMAND)
    assert said.startswith(f"dolly: Kubernetes does not answer: 127.0.0.1:{api.server_port}: ")
    assert "Connection refused; in a cluster, the network policy" in said
