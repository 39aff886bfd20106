"""Control groups as kernels write them, and the memory that a plan counts with."""

from pathlib import Path

import psutil
import pytest

from dolly_assets.hardware.control_group import ControlGroup
from dolly_assets.hardware.machine import host_bytes

GIB = 2**30
UNLIMITED_V1 = "9223372036854771712"


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
        "sys/fs/cgroup/kubepods/pod7/main/cpu.stat": (
            "usage_usec 9000000\nnr_throttled 3\nthrottled_usec 2500000\n"
        ),
        "sys/fs/cgroup/kubepods/pod7/main/memory.events": "low 0\noom 1\noom_kill 1\n",
        "sys/fs/cgroup/kubepods/pod7/main/io.pressure": (
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n"
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"
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
    """Within a container: the path is the host's and absent, the limits are at the mount."""
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


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cgroup.controllers": "memory\n",
                "sys/fs/cgroup/memory.max": f"{GIB}\n",
            },
            id="version 2, at the top: a container with its own namespace",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/user.slice/training.scope\n",
                "sys/fs/cgroup/cgroup.controllers": "memory\n",
                "sys/fs/cgroup/user.slice/training.scope/memory.max": f"{GIB}\n",
            },
            id="version 2, on the process's own group",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/batch.slice/job-7/worker\n",
                "sys/fs/cgroup/cgroup.controllers": "memory\n",
                "sys/fs/cgroup/batch.slice/memory.max": f"{2 * GIB}\n",
                "sys/fs/cgroup/batch.slice/job-7/memory.max": f"{GIB}\n",
                "sys/fs/cgroup/batch.slice/job-7/worker/memory.max": "max\n",
            },
            id="version 2, on groups above: the smallest holds",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
            },
            id="version 1, from within a container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/batch/job-7\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{UNLIMITED_V1}\n",
                "sys/fs/cgroup/memory/batch/memory.limit_in_bytes": f"{GIB}\n",
                "sys/fs/cgroup/memory/batch/job-7/memory.limit_in_bytes": f"{UNLIMITED_V1}\n",
            },
            id="version 1, on a group above",
        ),
    ],
)
def test_a_plan_counts_with_the_memory_that_the_kernel_allows(
    tmp_path: Path, files: dict[str, str]
) -> None:
    """Where it is missed, `dolly plan` says that a training fits which the kernel then kills."""
    _write(tmp_path, files)
    assert host_bytes(ControlGroup(tmp_path)) == GIB


def test_without_a_limit_a_plan_counts_with_the_machines_memory(tmp_path: Path) -> None:
    assert host_bytes(ControlGroup(tmp_path)) == psutil.virtual_memory().total
