"""The host, process trees and control groups of this machine, and groups as other kernels write them."""

import multiprocessing
import os
from pathlib import Path

import pytest

from dolly_assets.hardware.control_group import ControlGroup
from dolly_assets.profiling.record.host import ProcessTree, read_host


def test_the_host_gives_cpu_and_memory() -> None:
    values = read_host()
    assert 0 <= values["cpu_percent"] <= 100
    assert values["memory_used_bytes"] > 0


def _burn_half_a_second() -> None:
    while sum(os.times()[:2]) < 0.5:
        sum(range(10_000))


def test_cpu_time_of_a_child_that_came_and_went_is_counted_once() -> None:
    """What the parent reaped stays in the tree's sum, though the child was never seen alive."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        watched = pool.apply(os.getpid)
        tree = ProcessTree(watched)
        before = tree.read()
        pool.apply(_run_child)
        after = tree.read()
    assert 0.4 <= after["cpu_seconds"] - before["cpu_seconds"] <= 2.5


def _run_child() -> None:
    pid = os.fork()
    if pid == 0:
        _burn_half_a_second()
        os._exit(0)
    os.waitpid(pid, 0)


def test_a_tree_whose_root_never_was_is_not_alive() -> None:
    tree = ProcessTree(2**22 + 1)
    assert not tree.is_alive()
    assert tree.read() == {}


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def version_2(tmp_path: Path) -> ControlGroup:
    files = {
        "proc/self/cgroup": "0::/kubepods/pod7/main\n",
        "sys/fs/cgroup/cgroup.controllers": "cpu memory io\n",
        "sys/fs/cgroup/kubepods/pod7/cpu.max": "350000 100000\n",
        "sys/fs/cgroup/kubepods/pod7/memory.max": "68719476736\n",
        "sys/fs/cgroup/kubepods/pod7/main/cpu.max": "max 100000\n",
        "sys/fs/cgroup/kubepods/pod7/main/memory.max": "max\n",
        "sys/fs/cgroup/kubepods/pod7/main/memory.current": "4096\n",
        "sys/fs/cgroup/kubepods/pod7/main/cpu.stat": "usage_usec 9000000\nnr_throttled 3\nthrottled_usec 2500000\n",
        "sys/fs/cgroup/kubepods/pod7/main/memory.events": "low 0\noom 1\noom_kill 1\n",
        "sys/fs/cgroup/kubepods/pod7/main/io.pressure": (
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"
        ),
    }
    _write(tmp_path, files)
    return ControlGroup(tmp_path)


def test_a_limit_of_the_pod_holds_for_its_container(version_2: ControlGroup) -> None:
    assert version_2.cpu_limit() == 3.5
    assert version_2.memory_limit_bytes() == 64 * 2**30


def test_what_a_container_waited_for_is_in_seconds(version_2: ControlGroup) -> None:
    assert version_2.read() == {
        "memory_bytes": 4096,
        "cpu_throttled_seconds": 2.5,
        "out_of_memory_kills": 1,
        "io_pressure_seconds": 1.5,
    }


@pytest.mark.parametrize(
    ("quota", "limit", "cpus", "memory_bytes"),
    [("250000", "1073741824", 2.5, 2**30), ("-1", "9223372036854771712", None, None)],
)
def test_limits_of_version_1(
    tmp_path: Path, quota: str, limit: str, cpus: float | None, memory_bytes: int | None
) -> None:
    """Seen from within a container: the path is the host's and not there, the limits are at the mount."""
    files = {
        "proc/self/cgroup": "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": quota,
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": limit,
    }
    _write(tmp_path, files)
    group = ControlGroup(tmp_path)
    assert group.cpu_limit() == cpus
    assert group.memory_limit_bytes() == memory_bytes


def test_without_control_groups_there_are_no_limits(tmp_path: Path) -> None:
    group = ControlGroup(tmp_path)
    assert (group.cpu_limit(), group.memory_limit_bytes(), group.read()) == (None, None, {})
