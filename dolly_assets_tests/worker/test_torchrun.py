"""The ranks of two nodes under torchrun, as processes of this machine; one of each node."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dolly_assets.training.loop.stop import STOPPED
from dolly_assets_tests.waiting import wait_until

pytestmark = pytest.mark.slow

# A rank says that it has begun, and ends when it is told to.
RANK = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / f"{os.environ['RANK']}-{os.getpid()}").touch()
while not (folder / f"end-{os.environ['RANK']}").exists():
    time.sleep(0.1)
"""


class Node(subprocess.Popen[bytes]):
    """One of two."""

    def __init__(self, index: int, port: int, folder: Path) -> None:
        (folder / "rank.py").write_text(RANK)
        arguments = [
            "--nnodes=2",
            f"--node-rank={index}",
            "--master-addr=127.0.0.1",
            f"--master-port={port}",
        ]
        command = [
            sys.executable,
            "-m",
            "dolly_assets.worker.torchrun",
            *arguments,
            "--rdzv-conf=timeout=60",
        ]
        super().__init__([*command, str(folder / "rank.py"), str(folder)])
        self.index, self.port, self.folder = index, port, folder

    def ranks(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    def has_begun(self) -> bool:
        return any((self.folder / f"{self.index}-{rank.pid}").exists() for rank in self.ranks())

    def has_met(self) -> bool:
        found = psutil.Process(self.pid).net_connections("tcp")
        return any(
            each.raddr and each.raddr.port == self.port and each.status == "ESTABLISHED"
            for each in found
        )

    def end_rank(self) -> None:
        (self.folder / f"end-{self.index}").touch()
        wait_until(lambda: not self.ranks())

    def lose(self) -> None:
        for process in [*self.ranks(), self] if self.poll() is None else []:
            process.kill()
        self.wait()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Both run their rank. What a test adds ends with it."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    started = [Node(index, port, tmp_path) for index in (0, 1)]
    try:
        wait_until(lambda: all(node.has_begun() for node in started))
        yield started
    finally:
        for node in started:
            node.lose()


def test_a_node_that_is_done_ends_when_asked_while_others_train(nodes: list[Node]) -> None:
    nodes[0].end_rank()
    nodes[0].send_signal(signal.SIGTERM)
    assert nodes[0].wait(timeout=60) == STOPPED


def test_a_node_that_is_done_does_not_wait_long_for_one_that_was_lost(nodes: list[Node]) -> None:
    nodes[0].end_rank()
    nodes[1].lose()
    assert nodes[0].wait(timeout=60) == 0


def test_a_node_that_comes_again_meets_the_next_attempt_of_the_first_one(
    nodes: list[Node], tmp_path: Path
) -> None:
    nodes[1].lose()
    nodes.append(Node(1, nodes[0].port, tmp_path))
    wait_until(nodes[2].has_met)
    nodes[0].send_signal(signal.SIGTERM)
    assert nodes[0].wait(timeout=60) == STOPPED
    nodes.append(Node(0, nodes[0].port, tmp_path))
    wait_until(lambda: nodes[2].has_begun() and nodes[3].has_begun())
