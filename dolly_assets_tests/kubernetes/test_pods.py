"""What the states of pods mean: which ends are for good, what a run's log says, what is quoted."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.errors import WorkerError
from dolly_assets.launchers.kubernetes.failure import Failure, out_of_memory
from dolly_assets.launchers.kubernetes.gang import latest_loss
from dolly_assets.launchers.kubernetes.pods import (
    Event,
    Job,
    Pod,
    failed_for_good,
    how_it_ended,
    index_of,
    tolerated_exit_codes,
)
from dolly_assets.launchers.kubernetes.waiting import latest, why_it_waits
from dolly_assets.worker.messages import Failed
from dolly_assets_tests.kubernetes.directed import Directed

START = datetime(2026, 1, 1, tzinfo=UTC)
TAINT = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
KUBELET = ("TerminationByKubelet", "The node was low on resource: memory.")


def pod(
    name: str = "job-0-abcde",
    phase: str = "Failed",
    code: int | None = None,
    reason: str = "Error",
    message: str | None = None,
    *,
    minute: int = 0,
    of_pod: tuple[str, str] | None = None,
    disruption: tuple[str, str] | None = None,
    is_deleted: bool = False,
) -> Pod:
    """A pod as the client returns it, created at a minute."""
    from kubernetes import client

    at = START + timedelta(minutes=minute)
    state = client.V1ContainerState()
    if code is not None:
        state.terminated = client.V1ContainerStateTerminated(
            exit_code=code, reason=reason, message=message, finished_at=at + timedelta(seconds=30)
        )
    status = client.V1ContainerStatus(
        name="worker", image="", image_id="", ready=False, restart_count=0, state=state
    )
    conditions = []
    if disruption:
        conditions = [
            client.V1PodCondition(
                type="DisruptionTarget", status="True", reason=disruption[0], message=disruption[1]
            )
        ]
    index = {"batch.kubernetes.io/job-completion-index": name.split("-")[1]}
    return client.V1Pod(
        metadata=client.V1ObjectMeta(
            name=name,
            creation_timestamp=at,
            annotations=index,
            deletion_timestamp=at if is_deleted else None,
            deletion_grace_period_seconds=900 if is_deleted else None,
        ),
        spec=client.V1PodSpec(containers=[], node_name="node-1"),
        status=client.V1PodStatus(
            phase=phase,
            conditions=conditions,
            container_statuses=[] if of_pod and code is None else [status],
            reason=of_pod[0] if of_pod else None,
            message=of_pod[1] if of_pod else None,
        ),
    )


DISK = "Pod ephemeral local storage usage exceeds the total limit of containers 100Mi. "
GPU = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices"


@pytest.mark.parametrize(
    ("seen", "is_for_good", "text"),
    [
        (partial(pod, code=1), True, "exited with code 1"),
        (partial(pod, code=2), True, "exited with code 2"),
        (partial(pod, code=139), True, "exited with code 139"),
        (partial(pod, code=137, reason="OOMKilled"), True, "exited with code 137 (OOMKilled)"),
        (
            partial(pod, code=1, disruption=TAINT),
            False,
            f"does not answer or is not to be used ({TAINT[0]}",
        ),
        (
            partial(pod, code=137, disruption=KUBELET),
            False,
            f"was ended by its node ({KUBELET[0]}: The n",
        ),
        (partial(pod, code=75), False, "exited with code 75"),
        (partial(pod, code=143), False, "exited with code 143"),
        (partial(pod, code=137), False, "was killed (exit code 137)"),
        (partial(pod, code=137, is_deleted=True), False, "was deleted, and killed after 15 min"),
        (
            partial(pod, code=255, reason="Unknown"),
            False,
            "was lost: node node-1 has restarted (Unknown)",
        ),
        (
            partial(pod, code=137, reason="ContainerStatusUnknown", message="could not be located"),
            False,
            "has restarted (ContainerStatusUnknown): could not be located",
        ),
        (
            partial(pod, code=128, reason="StartError", message='exec: "python": not found'),
            False,
            'could not be started on node node-1 (StartError): exec: "python": not found',
        ),
        (
            partial(pod, code=75, of_pod=("Evicted", DISK)),
            False,
            "containers 100Mi.): raise compute.kubernetes.ephemeral_storage_gib",
        ),
        (
            partial(pod, of_pod=("UnexpectedAdmissionError", GPU)),
            False,
            f"(UnexpectedAdmissionError: {GPU}",
        ),
        (partial(pod, phase="Pending"), False, "disappeared (deleted)"),
    ],
)
def test_what_ends_a_training_for_good_is_what_its_worker_says(
    seen: Callable[[], Pod], is_for_good: bool, text: str
) -> None:
    assert failed_for_good(seen(), nodes=1) is is_for_good
    assert text in how_it_ended(seen())


def test_an_aborted_rank_of_several_pods_has_probably_lost_another() -> None:
    assert failed_for_good(pod(code=134), nodes=1)
    assert not failed_for_good(pod(code=134), nodes=2)
    assert tolerated_exit_codes(2) == sorted(set(tolerated_exit_codes(2))), "as the API requires"


def failed_job(reason: str, message: str = "") -> Job:
    from kubernetes import client

    condition = client.V1JobCondition(type="Failed", status="True", reason=reason, message=message)
    return client.V1Job(status=client.V1JobStatus(conditions=[condition]))


def failure(folder: Path, pods: list[Pod], **more: Any) -> Failure:
    spec = Directed(folder, cluster=None).spec  # pyright: ignore[reportArgumentType]
    names = [one.metadata.name for one in pods]
    logs = {name: [f"a line of {name}"] for name in names}
    given: dict[str, Any] = {"failures": [], "logs": logs, **more}
    return Failure(name="job", spec=spec, restarts=10, pods=pods, **given)


def test_the_attempt_that_failed_is_quoted_and_no_earlier_one(tmp_path: Path) -> None:
    """The first attempt reported an error, too, while it was being evicted."""
    first = pod("job-0-first", code=1, disruption=TAINT)
    second = pod("job-0-secnd", code=1, minute=5)
    said = [
        (name, Failed(rank=0, error=f"error of {name}", by_user=False))
        for name in ("job-0-first", "job-0-secnd")
    ]
    error = failure(tmp_path, [first, second], failures=said).error(failed_job("PodFailurePolicy"))
    assert isinstance(error, WorkerError)
    assert str(error) == ("rank 0: error of job-0-secnd; Job job has failed\na line of job-0-secnd")


def test_an_end_without_a_word_quotes_the_cluster(tmp_path: Path) -> None:
    seen = [pod("job-0-first", code=75), pod("job-0-secnd", code=139, minute=5)]
    error = failure(tmp_path, seen).error(failed_job("PodFailurePolicy", "Container worker"))
    assert str(error).startswith(
        "Job job has failed: PodFailurePolicy: Container worker (job-0-secnd exited with code 139)"
    )
    error = failure(tmp_path, seen[:1]).error(failed_job("MaxFailedIndexesExceeded"))
    assert "disrupted more than 10 times" in str(error)
    assert str(error).endswith("The last time, job-0-first exited with code 75")


def test_memory_that_ran_out_is_forgotten_when_the_pod_has_run_since() -> None:
    killed = pod("job-0-first", code=137, reason="OOMKilled")
    other = pod("job-1-other", phase="Running", minute=5)
    assert out_of_memory([killed, other]) is killed
    assert out_of_memory([killed, other, pod("job-0-secnd", phase="Running", minute=5)]) is None


def member(index: int, joined: int, ended: int | None = None) -> Pod:
    """A pod that got its node, and ended, at these seconds; without an end it runs."""
    from kubernetes import client

    phase, code = ("Running", None) if ended is None else ("Failed", 75)
    found = pod(f"job-{index}-a", phase, code)
    found.status.conditions = [
        client.V1PodCondition(
            type="PodScheduled",
            status="True",
            last_transition_time=START + timedelta(seconds=joined),
        )
    ]
    wrote = START + timedelta(seconds=joined if ended is None else ended)
    found.metadata.managed_fields = [
        client.V1ManagedFieldsEntry(subresource="status", time=wrote),
        client.V1ManagedFieldsEntry(time=START + timedelta(hours=1)),  # not by its node
    ]
    return found


def deleted_by_force(index: int, joined: int, ended: int) -> Pod:
    found = member(index, joined)
    found.metadata.deletion_timestamp = START + timedelta(seconds=ended)
    found.metadata.deletion_grace_period_seconds = 0
    return found


FIRST = [member(0, 0, ended=30), member(1, 0, ended=32)]


@pytest.mark.parametrize(
    ("pods", "gone", "left"),
    [
        pytest.param([member(0, 0), member(1, 0)], [], [], id="nothing is lost"),
        pytest.param([member(0, 0, ended=30), member(1, 0)], [], [1], id="one is lost"),
        pytest.param([member(0, 0)], [deleted_by_force(1, 0, 30)], [0], id="by force"),
        pytest.param([*FIRST, member(0, 40), member(1, 42)], [], [], id="both have restarted"),
        pytest.param(
            [*FIRST, member(0, 40, ended=90), member(1, 50)], [], [1], id="older of the second lost"
        ),
        pytest.param(
            [*FIRST, member(0, 40), member(1, 50, ended=90)], [], [0], id="younger of it lost"
        ),
        pytest.param(
            [member(0, 0, ended=30), member(1, 0, ended=45), member(0, 40)],
            [],
            [],
            id="one has noticed after the other's successor was there",
        ),
        pytest.param([member(0, 0, ended=30), member(1, 60)], [], [], id="got its node later"),
        pytest.param(
            [member(0, 0, ended=30), member(0, 30), member(1, 0)], [], [1], id="in one second"
        ),
    ],
)
def test_pods_are_left_behind_by_a_lost_one_of_their_own_attempt(
    pods: list[Pod], gone: list[Pod], left: list[int]
) -> None:
    assert [index_of(one) for one in latest_loss(pods, gone).left] == left


def test_a_pod_that_is_still_ending_has_left_none_behind() -> None:
    left, ending = pod("job-0-a", phase="Running"), pod("job-1-b", phase="Running", is_deleted=True)
    assert latest_loss([left, ending], []).left == []
    assert latest_loss([left], [ending]).left == [left]


def test_only_events_since_the_last_pod_count() -> None:
    from kubernetes import client

    def event(reason: str, minute: int) -> Event:
        return client.CoreV1Event(
            involved_object=client.V1ObjectReference(),
            metadata=client.V1ObjectMeta(),
            reason=reason,
            message="m",
            last_timestamp=START + timedelta(minutes=minute),
        )

    events = [event("Later", 2), event("Earlier", 1)]
    assert latest(events) == "Later: m"
    assert latest(events, START + timedelta(minutes=3)) == ""


def test_a_pause_before_a_restart_says_how_long_it_is() -> None:
    from kubernetes import client

    job = client.V1Job(metadata=client.V1ObjectMeta(), spec=client.V1JobSpec(template={}))
    assert "10 s after" in why_it_waits(job, [], "", failures=1)
    assert "10 min after" in why_it_waits(job, [], "", failures=9)
