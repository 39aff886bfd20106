"""`dolly ui` on a free port, with its daemon and code location, as a test's own."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from dolly_assets_tests.home import Home
from dolly_assets_tests.waiting import wait_until


@dataclass(frozen=True)
class Server:
    """A UI that answers."""

    url: str

    def ask(self, query: str, **variables: Any) -> Any:
        """The data that its GraphQL gives."""
        answer = requests.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60
        )
        answer.raise_for_status()
        assert "errors" not in answer.json(), answer.json()
        return answer.json()["data"]

    def is_up(self) -> bool:
        """Whether it answers, and has loaded what it is to show."""
        try:
            return bool(
                self.ask(
                    "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
                )
            )
        except requests.ConnectionError:
            return False


@contextlib.contextmanager
def serving(home: Home) -> Iterator[Server]:
    """Starts the UI of a home, and ends it with everything that it started."""
    port, reports_port = _free_ports()
    server = Server(f"http://127.0.0.1:{port}")
    with (home.path / "ui.log").open("w") as log:
        ports = ("--port", str(port), "--reports-port", str(reports_port))
        process = home.start("ui", *ports, stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or server.is_up(), 240)
            assert process.poll() is None, (home.path / "ui.log").read_text()
            yield server
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its servers too, whatever they are doing
            process.wait()


def _free_ports() -> tuple[int, int]:
    """One for the UI, one for the reports."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
