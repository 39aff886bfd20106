"""A Job that was disrupted after some work is replaced, and restarts without a pause."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dolly_assets.launchers.kubernetes.job import Owner, build_job, messages_of, renewed
from dolly_assets.launchers.kubernetes.pods import Job, Pod
from dolly_assets.launchers.kubernetes.renewal import WORKED_SECONDS, restarts_after_renewal
from dolly_assets_tests.kubernetes.cluster import QUEUE, Cluster
from dolly_assets_tests.kubernetes.directed import Directed, deployed_cluster
from dolly_assets_tests.kubernetes.test_pods import START, pod

Make = Callable[..., Directed]
pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """One that pauses for minutes, with a launcher for which any work is enough."""
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.renewal.WORKED_SECONDS", 0)
    with deployed_cluster(tmp_path / "cluster", speed=0.1) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster


def disrupt(cluster: Cluster, training: Directed, times: int) -> None:
    """Evicts a pod, and returns when all are back."""
    cluster.evict(cluster.running()[-1])
    training.wait("begun", 2, times=(1 + times) * training.spec.family.compute.nodes)


def in_epoch_2(cluster: Cluster, training: Directed) -> None:
    training.agree()
    training.start()
    # A scripted worker that starts when the epoch is published has nothing of it to train.
    training.wait("begun", 1, times=training.spec.family.compute.nodes)
    training.let(1)
    cluster.wait(lambda: training.published == ["01"])
    training.wait("begun", 2, times=training.spec.family.compute.nodes)


def test_pods_are_back_without_a_pause_and_nothing_is_trained_or_told_twice(
    cluster: Cluster, directed: Make
) -> None:
    training = directed(compute={"nodes": 2})
    in_epoch_2(cluster, training)
    [first] = cluster.jobs()
    for times in (1, 2, 3):  # the fourth pause would be 80 s
        disrupt(cluster, training, times)
    [job] = cluster.jobs()
    assert job["metadata"]["name"] == f"{first['metadata']['name']}-r4"
    # The stand-in removes an evicted pod at once, and may create another before the Job goes.
    assert job["spec"]["backoffLimitPerIndex"] <= 7
    assert training.ends_whole().restarts >= 3
    assert [training.times("trained", epoch) for epoch in (1, 2, 3)] == [2, 2, 2]
    assert cluster.gpus_booked() == 0


def test_a_job_that_has_replaced_another_is_found_again(cluster: Cluster, directed: Make) -> None:
    def interrupt(message: object) -> None:
        if "-r2 runs on " in getattr(message, "text", ""):
            raise KeyboardInterrupt

    training = directed(is_cancelled=False, on_message=interrupt)
    in_epoch_2(cluster, training)
    disrupt(cluster, training, 1)
    assert isinstance(training.end(), KeyboardInterrupt)
    again = directed(owner=Owner("run-2", "run", "fine_tune"))
    again.start()
    cluster.wait(lambda: again.published == ["01"])
    assert "-r2 in dolly is already doing this work" in again.log
    disrupt(cluster, again, 2)
    assert "-r3 replaces " in again.log
    assert again.ends_whole()


def test_replaced_jobs_are_disrupted_no_more_often_than_they_may_be(
    cluster: Cluster, directed: Make
) -> None:
    training = directed(settings={"restarts": 1})
    in_epoch_2(cluster, training)
    disrupt(cluster, training, 1)
    cluster.evict(cluster.running()[0])
    assert "was disrupted more than 1 times; giving up" in str(training.end())
    assert cluster.has_ended()


def test_a_quota_that_still_counts_the_earlier_job_is_waited_for(
    cluster: Cluster, directed: Make
) -> None:
    training = directed()
    in_epoch_2(cluster, training)
    cluster.fail(403, verb="create", plural="jobs")
    disrupt(cluster, training, 1)
    assert training.ends_whole().restarts >= 1


def test_a_job_whose_deletion_takes_long_is_waited_for_and_named(
    cluster: Cluster, directed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.job_monitor.SLOW_SECONDS", 0)
    training = directed()
    in_epoch_2(cluster, training)
    cluster.keep_jobs()
    [name] = [job["metadata"]["name"] for job in cluster.jobs()]
    cluster.evict(cluster.running()[-1])
    cluster.wait(lambda: f"Job {name}-r2 waits until Job {name} is deleted" in training.log)
    assert [job["metadata"]["name"] for job in cluster.jobs()] == [name]
    cluster.keep_jobs(finalizers=())
    assert training.ends_whole().restarts == 1


def a_job(nodes: int = 1, labels: dict[str, str] | None = None, **spec: Any) -> Job:
    values = {"completions": nodes, "suspend": False, "backoff_limit_per_index": 10, **spec}
    metadata = SimpleNamespace(name="job", labels=labels or {}, deletion_timestamp=None)
    status = SimpleNamespace(conditions=[])
    return SimpleNamespace(metadata=metadata, spec=SimpleNamespace(**values), status=status)


def worked(seconds: float, code: int = 75, index: int = 0) -> Pod:
    item = pod(f"job-{index}-abcde", code=code)
    end = item.status.container_statuses[0].state.terminated
    end.started_at, end.finished_at = START, START + timedelta(seconds=seconds)
    return item


LONG = WORKED_SECONDS + 1


@pytest.mark.parametrize(
    ("job", "pods", "restarts"),
    [
        (a_job(), [worked(LONG)], 9),
        (a_job(), [worked(1)], None),
        (a_job(), [worked(LONG, code=1)], None),
        (a_job(), [worked(LONG, code=128)], None),
        (a_job(nodes=2), [worked(LONG)], None),
        (a_job(nodes=2), [worked(LONG), worked(LONG, index=1)], 9),
        (a_job(nodes=2), [worked(LONG), worked(1, index=1)], None),
        (a_job(labels={QUEUE: "trainings"}), [worked(LONG)], None),
        (a_job(suspend=True), [worked(LONG)], None),
        (a_job(backoff_limit_per_index=0), [worked(LONG)], None),
    ],
)
def test_what_is_replaced_has_worked_for_a_while_and_has_ended_as_a_whole(
    job: Job, pods: list[Pod], restarts: int | None
) -> None:
    assert restarts_after_renewal(job, pods, []) == restarts
    assert restarts_after_renewal(job, pods[1:], pods[:1]) == restarts


def test_a_job_that_replaces_another_has_hosts_of_its_own_and_the_same_messages(
    tmp_path: Path,
) -> None:
    training = Directed(tmp_path, cluster=None, compute={"nodes": 2})  # pyright: ignore[reportArgumentType]
    job = build_job(training.spec, training.launcher.settings, training.owner)
    first = job.metadata.name
    job.metadata.labels["job-name"] = job.spec.template.metadata.labels["job-name"] = first
    for number in (2, 3):
        job = renewed(job, restarts=4)
        name = f"{first}-r{number}"
        variables = {item.name: item.value for item in job.spec.template.spec.containers[0].env}
        assert job.metadata.name == name
        assert variables["DOLLY_MEET"].startswith(f"{name}-0.")
        assert variables["DOLLY_MESSAGES"] == messages_of(name)
        assert "job-name" not in {**job.metadata.labels, **job.spec.template.metadata.labels}
        assert job.spec.backoff_limit_per_index == 4
