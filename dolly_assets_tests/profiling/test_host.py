"""The host and the process trees of this machine."""

import multiprocessing
import os

import pytest

from dolly_assets.profiling.record.host import ProcessTree, read_host


def test_the_host_gives_cpu_and_memory() -> None:
    values = read_host()
    assert 0 <= values["cpu_percent"] <= 100
    assert values["memory_used_bytes"] > 0


def _burn_half_a_second() -> None:
    while sum(os.times()[:2]) < 0.5:
        sum(range(10_000))


@pytest.mark.slow
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
