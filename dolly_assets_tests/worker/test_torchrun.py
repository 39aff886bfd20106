"""The ranks of two nodes under torchrun, as processes of this machine: the first node is done, the second is not."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dolly_assets.training.stop import STOPPED
from dolly_assets_tests.waiting import wait_until

RANK = """
import os, pathlib, sys, time
rank = os.environ["RANK"]
(pathlib.Path(sys.argv[1]) / rank).touch()
while rank == "1":
    time.sleep(1)
"""


def ranks_of(node: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(node.pid).children()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Both are met, and the first has ended its rank."""
    rank = tmp_path / "rank.py"
    rank.write_text(RANK)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "dolly_assets.worker.torchrun", "--nnodes=2", "--master-addr=127.0.0.1"]
    started = [
        subprocess.Popen([*command, f"--master-port={port}", f"--node-rank={node}", str(rank), str(tmp_path)])
        for node in (0, 1)
    ]
    try:
        wait_until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists())
        wait_until(lambda: not ranks_of(started[0]))
        yield started
    finally:
        for node in started:
            for process in [*ranks_of(node), node] if node.poll() is None else []:
                process.kill()
            node.wait()


def test_a_node_that_is_done_ends_when_asked_while_others_train(nodes: list[subprocess.Popen[bytes]]) -> None:
    nodes[0].send_signal(signal.SIGTERM)
    assert nodes[0].wait(timeout=60) == STOPPED


def test_a_node_that_is_done_does_not_wait_long_for_one_that_was_lost(nodes: list[subprocess.Popen[bytes]]) -> None:
    for process in [*ranks_of(nodes[1]), nodes[1]]:
        process.kill()
    assert nodes[0].wait(timeout=60) == 0
