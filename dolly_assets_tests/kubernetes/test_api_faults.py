"""The API answers with errors, watches and logs break: the training goes on, and everything of it is told once."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dolly_assets.compute.kubernetes.api import Api
from dolly_assets.compute.kubernetes.job import Owner, build_job
from dolly_assets.errors import ConfigurationError, WorkerError
from dolly_assets_tests.kubernetes.cluster import NAMESPACE, Cluster
from dolly_assets_tests.kubernetes.conftest import Directed

Make = Callable[..., Directed]


def test_a_training_and_its_log_come_through_an_api_that_breaks_all_the_time(
    cluster: Cluster, directed: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    for status in (429, 500, 503):
        for verb, plural in (("list", "jobs"), ("create", "jobs"), ("list", "pods"), ("watch", "pods")):
            cluster.fail(status, verb=verb, plural=plural)
    training = directed()
    training.start()
    training.wait("begun", 1)
    cluster.cut_logs()
    cluster.drop_watches()
    training.let(1)
    cluster.wait(lambda: training.published == ["01"])
    cluster.fail(410, verb="watch", times=2)
    cluster.forget_history()
    cluster.drop_watches()
    training.let(2)
    training.wait("begun", 3)
    cluster.cut_logs()
    cluster.fail(500, verb="watch", times=2)
    cluster.drop_watches()
    training.let()
    assert training.end() is None
    assert training.published == ["01", "02", "03"]
    assert training.is_whole()
    lines = re.findall(r"^\[rank 0 \S+\] (epoch \d begins)$", capfd.readouterr().err, re.MULTILINE)
    assert lines == ["epoch 1 begins", "epoch 2 begins", "epoch 3 begins"]
    assert cluster.gpus_booked() == 0


def test_a_job_whose_making_was_answered_by_nobody_is_taken_as_made(cluster: Cluster, directed: Make) -> None:
    training = directed()
    job = build_job(training.spec, training.launcher.settings, training.owner)
    for key in list(job.metadata.labels):  # found by its name alone
        if key.startswith("dolly-assets/work"):
            job.metadata.labels[key] = "another"
    assert Api(NAMESPACE).create_job(job)
    training.let()
    training.launch()
    assert training.is_whole()
    assert "is there already" in training.log
    assert len(cluster.jobs()) == 1


def test_a_job_is_ended_by_an_api_that_breaks(cluster: Cluster, directed: Make) -> None:
    def interrupt(_: Any) -> None:
        for status in (500, 429):
            cluster.fail(status, verb="delete", plural="jobs")
        training.on_message = lambda _: None
        raise KeyboardInterrupt

    training = directed(on_message=interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.launch()
    assert not cluster.jobs()
    assert cluster.gpus_booked() == 0


def test_a_cluster_that_refuses_the_job_is_quoted(cluster: Cluster, directed: Make) -> None:
    cluster.deny("policy: images come from here only")
    with pytest.raises(WorkerError, match=r"does not take Job .*policy: images come from here only"):
        directed().launch()
    assert not cluster.jobs()


def test_rights_that_are_missing_are_named(cluster: Cluster, directed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dolly_assets.compute.kubernetes.follower.SILENCE_SECONDS", 0)
    cluster.forbid("list", "pods")
    with pytest.raises(ConfigurationError, match="does not let Jobs be followed: pods is forbidden"):
        directed().launch()
    assert not cluster.jobs()


def test_trainings_beside_each_other_in_an_api_that_breaks_do_not_mix(cluster: Cluster, directed: Make) -> None:
    trainings = [
        directed(training=f"t{number}", owner=Owner(f"run-{number}", f"run-{number}", "s")) for number in "abc"
    ]
    for training in trainings:
        training.let()
        training.start()
    stop = threading.Event()

    def disturb() -> None:
        while not stop.wait(0.2):
            cluster.drop_watches()
            cluster.cut_logs()
            if not any(fault.times > 0 for fault in cluster.api.faults):  # an API that never answers helps nobody
                cluster.fail(500)
                cluster.fail(429, verb="watch")

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        assert [training.end() for training in trainings] == [None] * 3
    finally:
        stop.set()
        disturbing.join()
    for training in trainings:
        assert training.published == ["01", "02", "03"]
    assert cluster.gpus_booked() == 0
