"""The API answers with errors, watches and logs break: training continues, all is reported once."""

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dolly_assets.core.errors import ConfigurationError, WorkerError
from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.job import build_job
from dolly_assets_tests.kubernetes.cluster import NAMESPACE, Cluster
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.kubernetes.disturbing import Disturbing

Make = Callable[..., Directed]


def test_a_training_and_its_log_come_through_an_api_that_breaks_all_the_time(
    cluster: Cluster,
    directed: Make,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.api.TIMEOUT", (10, 1))
    for status in (429, 500, 503):
        for verb, plural in (
            ("list", "jobs"),
            ("create", "jobs"),
            ("list", "pods"),
            ("watch", "pods"),
        ):
            cluster.fail(status, verb=verb, plural=plural)
    training = directed()
    training.start()
    training.wait("begun", 1)
    assert " cannot be created yet, trying again: scripted: 503" in training.log
    cluster.cut_logs()
    cluster.drop_watches()
    training.let(1)
    cluster.wait(lambda: training.published == ["01"])
    cluster.fail(410, verb="watch", times=2)
    cluster.forget_history()
    cluster.drop_watches()
    cluster.end_logs()
    training.let(2)
    training.wait("begun", 3)
    cluster.stall_logs()
    cluster.fail(500, verb="watch", times=2)
    cluster.drop_watches()
    training.let()
    assert training.end() is None
    assert training.published == ["01", "02", "03"]
    assert training.is_whole()
    lines = re.findall(r"^\[rank 0 \S+\] (epoch \d begins)$", capfd.readouterr().err, re.MULTILINE)
    assert lines == ["epoch 1 begins", "epoch 2 begins", "epoch 3 begins"]
    assert cluster.gpus_booked() == 0


def test_a_job_whose_making_was_answered_by_nobody_is_taken_as_made(
    cluster: Cluster, directed: Make
) -> None:
    training = directed()
    job = build_job(training.spec, training.launcher.settings, training.owner)
    for key in list(job.metadata.labels):  # found by its name alone
        if key.startswith("dolly-assets/work"):
            job.metadata.labels[key] = "another"
    assert Api(NAMESPACE).create_job(job)
    training.let()
    training.launch()
    assert training.is_whole()
    assert "already exists" in training.log
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
    with pytest.raises(
        WorkerError, match=r"the cluster rejected Job .*policy: images come from here only"
    ):
        directed().launch()
    assert not cluster.jobs()


def test_rights_that_are_missing_are_named(
    cluster: Cluster, directed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.job_monitor.SILENCE_SECONDS", 0)
    cluster.forbid("list", "pods")
    with pytest.raises(
        ConfigurationError, match="may not follow Jobs in the cluster: pods is forbidden"
    ):
        directed().launch()
    assert not cluster.jobs()


def test_credentials_that_were_revoked_are_named_and_the_job_goes_on(
    cluster: Cluster, directed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.job_monitor.SILENCE_SECONDS", 0)
    training = directed()
    training.start()
    training.wait("begun", 1)
    cluster.fail(401, times=math.inf)
    cluster.drop_watches()
    error = training.end()
    assert isinstance(error, ConfigurationError)
    assert "does not accept this account's credentials (scripted: 401): renew them; Job " in str(
        error
    )
    assert len(cluster.running()) == 1


def test_trainings_beside_each_other_in_an_api_that_breaks_and_a_cluster_that_evicts_end_right(
    cluster: Cluster, directed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last one meets all the faults that the others have left.
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.api.RETRY_SECONDS", (0.1, 0.5))
    trainings = [directed(folder=f"{number}") for number in range(6)]
    for training in trainings:
        training.let()
        training.start()
    with Disturbing(cluster, random.Random(1), evictions=3) as disturbing:
        assert [training.end() for training in trainings] == [None] * len(trainings)
    for training in trainings:
        assert training.published == ["01", "02", "03"]
        assert training.is_whole()
    assert disturbing.counts["pods evicted"]
    assert cluster.gpus_booked() == 0


def test_credentials_that_were_renewed_are_read_again(
    cluster: Cluster, directed: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A kubeconfig's token is replaced while a training runs, and the earlier one is revoked."""
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.job_monitor.SILENCE_SECONDS", 0)
    file = tmp_path / "kubeconfig"
    document = yaml.safe_load(cluster.kubeconfig.read_text())

    def write(token: str) -> None:
        document["users"][0]["user"] = {"token": token}
        file.write_text(yaml.safe_dump(document))

    write("earlier")
    monkeypatch.setenv("KUBECONFIG", str(file))
    training = directed()
    training.start()
    training.wait("begun", 1)
    write("later")
    cluster.fail(401, times=1)
    cluster.drop_watches()
    assert training.ends_whole().restarts == 0
