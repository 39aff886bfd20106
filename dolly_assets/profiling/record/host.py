"""The host, a process tree and a container's limits, through psutil and the kernel's files.

Knows no GPUs.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress

import psutil


def read_host() -> dict[str, float]:
    """Read CPU, load and memory of the host, and counters of disk and network.

    `cpu_percent` is over all CPUs since the last call; `memory_used_bytes` is what is not available
    without swapping. Disk and network are bytes since boot, of the whole host (network: of this
    network namespace), and are left out where the kernel hides them.
    """
    memory = psutil.virtual_memory()
    values: dict[str, float] = {
        "cpu_percent": psutil.cpu_percent(),
        "load_1m": round(os.getloadavg()[0], 2),
        "memory_used_bytes": memory.total - memory.available,
    }
    with suppress(OSError, RuntimeError):
        values["swap_used_bytes"] = psutil.swap_memory().used
    with suppress(OSError, RuntimeError):  # of 64 bits: no need to watch them for wrapping
        if disk := psutil.disk_io_counters(nowrap=False):
            values |= {"disk_read_bytes": disk.read_bytes, "disk_written_bytes": disk.write_bytes}
    with suppress(OSError, RuntimeError):
        if network := psutil.net_io_counters(nowrap=False):
            values |= {
                "network_received_bytes": network.bytes_recv,
                "network_sent_bytes": network.bytes_sent,
            }
    return values


def read_self(*, with_memory: bool) -> dict[str, float]:
    """Read what this process used so far: `cpu_seconds`, and optionally `memory_bytes`."""
    values: dict[str, float] = {"cpu_seconds": round(time.process_time(), 4)}
    if with_memory:
        values["memory_bytes"] = psutil.Process().memory_info().rss
    return values


class ProcessTree:
    """A process and its descendants, without this process and those to be left out.

    CPU time is that of the tree plus what its reaped children used, so a child that starts and ends
    between two readings is still counted, once. The resolution is the kernel's tick, usually 10 ms.
    """

    def __init__(self, pid: int, leave_out: Sequence[int] = ()) -> None:
        self._left_out = {os.getpid(), *leave_out}
        self._pids: set[int] = set()
        self._tree: list[psutil.Process] = []
        try:
            self._root: psutil.Process | None = psutil.Process(pid)
        except psutil.NoSuchProcess:
            self._root = None

    def is_alive(self) -> bool:
        """Return False once the root has ended, even if its pid was reused or it was not reaped."""
        if self._root is None:
            return False
        try:
            return self._root.is_running() and self._root.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def read(self) -> dict[str, float]:
        """Read `cpu_seconds` (used so far), `memory_bytes` and `process_count`.

        Nothing once the root has ended. `memory_bytes` is the sum of resident sizes: pages that
        processes share are counted for each of them.
        """
        self._refresh()
        cpu_seconds, memory_bytes, count = 0.0, 0, 0
        for process in self._tree:
            with suppress(psutil.Error):
                cpu_seconds += sum(
                    process.cpu_times()[:4]
                )  # user, system, and both again of reaped children
                memory_bytes += process.memory_info().rss
                count += 1
        if not count:
            return {}
        return {
            "cpu_seconds": round(cpu_seconds, 2),
            "memory_bytes": memory_bytes,
            "process_count": count,
        }

    def _refresh(self) -> None:
        """List the tree again if the host's processes changed: finding all parents is expensive."""
        pids = set(psutil.pids())
        if self._root is None or pids == self._pids:
            return
        self._pids = pids
        self._tree = []
        with suppress(psutil.Error):
            family = [self._root, *self._root.children(recursive=True)]
            self._tree = [process for process in family if process.pid not in self._left_out]
