"""The stand-in and a real cluster: a run says the same of the same ends on both.

What Kubernetes quotes (in parentheses) and how long things take may differ.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from dolly_assets.launchers.base import Times
from dolly_assets_tests.kubernetes.cluster import Cluster
from dolly_assets_tests.kubernetes.directed import Directed, deployed_cluster
from dolly_assets_tests.kubernetes.real import SMALL, RealCluster, needs_a_real_cluster

pytestmark = [*needs_a_real_cluster, pytest.mark.long]


class Hand(Protocol):
    """What happens to the only pod of a cluster, or to its Job."""

    def evict(self) -> None: ...
    def delete(self) -> None: ...
    def reboot(self) -> None: ...
    def silence(self) -> None: ...
    def answer(self) -> None: ...
    def delete_job(self) -> None: ...


@dataclass
class OnStandIn:
    cluster: Cluster

    def evict(self) -> None:
        self.cluster.evict(self.cluster.running()[0])

    def delete(self) -> None:
        self.cluster.delete(self.cluster.running()[0])

    def reboot(self) -> None:
        self.cluster.reboot(self.cluster.running()[0])

    def silence(self) -> None:
        self.cluster.silence(self.cluster.running()[0])

    def answer(self) -> None:
        self.cluster.answer(self.cluster.running()[0])

    def delete_job(self) -> None:
        self.cluster.controller.delete_job(self.cluster.jobs()[0], "Background")


@dataclass
class OnReal:
    cluster: RealCluster

    def evict(self) -> None:
        self.cluster.evict(self.cluster.running()[0])

    def delete(self) -> None:
        name = self.cluster.running()[0].metadata.name
        self.cluster.core.delete_namespaced_pod(name, self.cluster.namespace)

    def reboot(self) -> None:
        self.cluster.command("reboot", self.cluster.running()[0].spec.node_name)

    def silence(self) -> None:
        self.cluster.command("cut", self.cluster.running()[0].spec.node_name)

    def answer(self) -> None:
        self.cluster.command("join", self.cluster.running()[0].spec.node_name)

    def delete_job(self) -> None:
        self.cluster.delete_job("Background")


def disrupted(how: Callable[[Hand], None]) -> Callable[[Directed, Hand], None]:
    def end(training: Directed, hand: Hand) -> None:
        how(hand)
        training.wait("begun", 2, times=2)
        training.let()

    return end


def fails(how: str) -> Callable[[Directed, Hand], None]:
    return lambda training, _: training.fail(2, how)


def silent_for_a_while(training: Directed, hand: Hand) -> None:
    hand.silence()
    try:
        training.cluster.wait(lambda: "does not answer" in training.log)
    finally:
        hand.answer()
    training.cluster.wait(lambda: "answers again" in training.log)
    training.let()


ENDS: dict[str, Callable[[Directed, Hand], None]] = {
    "success": lambda training, _: training.let(),
    "error of the user": fails("TrainingError"),
    "error in code": fails("KeyError"),
    "exit without a word": fails("3"),
    "pod evicted": disrupted(lambda hand: hand.evict()),
    "pod deleted": disrupted(lambda hand: hand.delete()),
    "node rebooted": disrupted(lambda hand: hand.reboot()),
    "node silent": silent_for_a_while,
    "Job deleted": lambda _, hand: hand.delete_job(),
}


def report(training: Directed, hand: Hand, end: Callable[[Directed, Hand], None]) -> list[str]:
    """What the run says, and how it ends."""
    training.let(1)
    training.start()
    training.wait("begun", 2)
    end(training, hand)
    error = training.end()
    times = training.messages[-1]
    assert isinstance(times, Times)
    lines = sorted(line for line in training.log.splitlines() if " is waiting" not in line)
    ended = "/".join(training.published), f"{times.restarts} restarts", f"{error}"
    return [_without_names(line) for line in (*lines, *ended)]


def _without_names(line: str) -> str:
    """A line without names, durations and what Kubernetes says."""
    line = re.sub(r"\([^()]*(\([^()]*\))*[^()]*\)", "()", line.partition("\n")[0])
    line = re.sub(r": Container worker for pod .*", ": …", line)
    line = re.sub(
        r"dolly-tiny-[0-9a-f]{12}-1(-\d-[a-z0-9]{5})?", lambda it: "P" if it[1] else "J", line
    )
    line = re.sub(r"\b(in )dolly\S*", r"\1N", re.sub(r"node-\d+", "NODE", line))
    return re.sub(r"\d[\d.]* (ms|s|min)( \d+ s)?", "T", line)


@pytest.mark.parametrize("name", ENDS)
def test_a_run_says_the_same_on_the_stand_in_and_on_a_real_cluster(
    real_cluster: RealCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shared = real_cluster.shared()
    training = Directed(shared, real_cluster, real_cluster.settings(shared), SMALL)  # pyright: ignore[reportArgumentType]
    on_real = report(training, OnReal(real_cluster), ENDS[name])
    with deployed_cluster(tmp_path / "cluster") as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        training = Directed(tmp_path, cluster, compute=SMALL)
        on_stand_in = report(training, OnStandIn(cluster), ENDS[name])
    assert on_stand_in == on_real
