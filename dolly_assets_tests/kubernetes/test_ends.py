"""Every way in which a Job can end: its work, its messages, and that no GPU stays booked."""

import signal
from collections.abc import Callable

import pytest

from dolly_assets.core.errors import DollyError, TrainingError, WorkerError, WorkerStopped
from dolly_assets.launchers.base import Times
from dolly_assets.launchers.kubernetes.job import Owner
from dolly_assets_tests.kubernetes.cluster import Cluster
from dolly_assets_tests.kubernetes.directed import Directed, in_queue, interrupt_at

Make = Callable[..., Directed]


def is_free(cluster: Cluster) -> bool:
    return cluster.gpus_booked() == 0


def test_success_is_told_epoch_by_epoch_with_waiting_and_running_apart(
    cluster: Cluster, directed: Make
) -> None:
    cluster.hold("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    training = directed()
    training.start()
    cluster.wait(lambda: "Insufficient nvidia.com/gpu" in training.log)
    cluster.release()
    training.wait("begun", 1)
    assert cluster.gpus_booked() == 1
    training.let(1)
    cluster.wait(lambda: training.published == ["01"])
    times = training.ends_whole()
    assert times.waiting_seconds > 0
    assert times.running_seconds > 0
    assert times.restarts == 0
    assert is_free(cluster)


def test_a_queue_of_kueue_is_waited_in_and_its_place_is_told(
    cluster: Cluster, directed: Make
) -> None:
    cluster.queue("trainings", before=3, why="insufficient unused quota for nvidia.com/gpu")
    training = directed(compute=in_queue("trainings"))
    training.let()
    training.start()
    place = "in the queue trainings, 3 ahead of it"
    why = f"is waiting: {place}: Pending: insufficient unused quota for nvidia.com/gpu"
    cluster.wait(lambda: why in training.log)
    assert cluster.gpus_booked() == 0
    cluster.admit()
    assert training.end() is None
    assert training.is_whole()


@pytest.mark.parametrize("tells_nothing", ["forbidden", "not listed"])
def test_a_queue_that_tells_no_place_is_waited_in(
    cluster: Cluster, directed: Make, tells_nothing: str
) -> None:
    cluster.queue("trainings", before=None if tells_nothing == "not listed" else 3)
    if tells_nothing == "forbidden":
        cluster.forbid("get", "localqueues/pendingworkloads")
    training = directed(compute=in_queue("trainings"))
    training.let()
    training.start()
    cluster.wait(lambda: training.log.endswith("is waiting: in the queue trainings"))
    cluster.admit()
    assert training.end() is None


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("DollyError", DollyError, r"^change this$"),
        (
            "KeyError",
            WorkerError,
            r"^rank 0: KeyError: what; Job .* has failed\n(.*\n)*the last words of a worker$",
        ),
        ("3", WorkerError, r"^Job .* has failed: PodFailurePolicy: .*exit code 3"),
    ],
)
def test_an_error_in_code_ends_the_job_at_once(
    cluster: Cluster, directed: Make, how: str, error: type[Exception], text: str
) -> None:
    training = directed()
    training.fail(1, how)
    with pytest.raises(error, match=text):
        training.launch()
    assert training.times("begun", 1) == 1
    assert cluster.has_ended(), "it stays to be inspected"
    assert "is waiting" not in training.log.rpartition(" runs on ")[2]
    assert is_free(cluster)


def test_want_of_memory_says_what_to_change(cluster: Cluster, directed: Make) -> None:
    training = directed()
    training.start()
    training.wait("begun", 1)
    cluster.oom_kill(cluster.running()[0])
    error = training.end()
    assert isinstance(error, WorkerError)
    assert "exited with code 137 (OOMKilled)): raise compute.memory_gib from 8, or change" in str(
        error
    )
    assert cluster.has_ended(), "it stays to be inspected"
    assert len(cluster.pods()) == 1
    assert is_free(cluster)


@pytest.mark.parametrize(
    ("disrupt", "told"),
    [
        (Cluster.evict, "was evicted (EvictionByEvictionAPI: "),
        (Cluster.lose, "was lost with its node (DeletionByPodGC: "),
        (Cluster.delete, "exited with code 75"),
        (Cluster.reboot, "was lost: node node-1 has restarted (Unknown)"),
        (Cluster.fill_disk, ": raise compute.kubernetes.ephemeral_storage_gib"),
    ],
)
def test_a_disruption_goes_on_by_itself_and_no_epoch_is_trained_twice(
    cluster: Cluster, directed: Make, disrupt: Callable[[Cluster, object], None], told: str
) -> None:
    training = directed()
    training.let(1)
    training.start()
    training.wait("begun", 2)
    disrupt(cluster, cluster.running()[0])
    training.wait("begun", 2, times=2)
    training.let()
    assert training.end() is None
    assert [training.times("trained", epoch) for epoch in (1, 2, 3)] == [1, 1, 1]
    assert training.published == ["01", "02", "03"]
    times = training.messages[-1]
    assert isinstance(times, Times)
    assert times.restarts == 1
    assert told in training.log
    assert is_free(cluster)


def test_a_container_that_cannot_be_started_is_tried_again_and_its_error_is_told(
    cluster: Cluster, directed: Make
) -> None:
    cluster.break_starts("OCI runtime create failed: device or resource busy")
    training = directed()
    training.let()
    training.start()
    why = "could not be started on node node-1 (StartError): OCI runtime create failed: device or"
    cluster.wait(lambda: why in training.log)
    cluster.release()
    assert training.end() is None
    assert is_free(cluster)


def test_an_image_without_the_workers_program_is_the_end(cluster: Cluster, directed: Make) -> None:
    cluster.break_starts('exec: "python": executable file not found in $PATH')
    with pytest.raises(
        WorkerError, match=r"the image scripted:1 has no python \(.*: name an image"
    ):
        directed().launch()
    assert cluster.has_ended(), "it stays to be inspected"
    assert cluster.gpus_booked() == 0


def test_too_many_disruptions_are_the_end(cluster: Cluster, directed: Make) -> None:
    training = directed(settings={"restarts": 1})
    training.start()
    for time in (1, 2):
        training.wait("begun", 1, times=time)
        cluster.evict(cluster.running()[0])
    error = str(training.end())
    assert "was disrupted more than 1 times" in error
    assert "The last time, dolly-tiny-" in error
    assert " was evicted (" in error
    assert cluster.has_ended(), "it stays to be inspected"
    assert is_free(cluster)


def test_pods_that_are_left_behind_begin_again_with_the_one_that_was_lost(
    cluster: Cluster, directed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes; the second one is lost and comes back, and the first has not noticed."""
    for name in ("GANG_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(f"dolly_assets.launchers.kubernetes.gang.{name}", 0.1)
    cluster.fail(403, verb="delete", plural="pods")
    training = directed(compute={"nodes": 2})
    training.start()
    training.wait("begun", 1, times=2)
    first, second = sorted(cluster.running(), key=lambda pod: pod["spec"]["hostname"])
    cluster.lose(second)
    cluster.wait(lambda: f"cannot restart {first['metadata']['name']}, trying" in training.log)
    cluster.wait(lambda: f"restarting {first['metadata']['name']} together" in training.log)
    training.wait("begun", 1, times=4)
    training.let()
    assert training.end() is None
    assert training.is_whole()
    assert is_free(cluster)


def test_a_node_that_does_not_answer_is_named_with_what_to_do_and_nothing_restarts_before(
    cluster: Cluster, directed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes; the second one is silent until its pod is given up, and then answers again."""
    for name in ("GANG_SECONDS", "SAVING_SECONDS"):
        monkeypatch.setattr(f"dolly_assets.launchers.kubernetes.gang.{name}", 0)
    training = directed(compute={"nodes": 2})
    training.start()
    training.wait("begun", 1, times=2)
    _, second = sorted(cluster.running(), key=lambda pod: pod["spec"]["hostname"])
    name = second["metadata"]["name"]
    cluster.silence(second)
    cluster.wait(lambda: f"node node-1 of {name} does not answer: " in training.log)
    cluster.give_up(second)
    cluster.wait(lambda: "run `kubectl delete node node-1` or `kubectl taint" in training.log)
    cluster.wait(lambda: f"is waiting: node node-1 of {name} does not answer" in training.log)
    assert "restarting" not in training.log
    cluster.answer(second)
    training.wait("begun", 1, times=4)
    training.let()
    assert training.end() is None
    assert f"node node-1 of {name} answers again" in training.log
    assert is_free(cluster)


@pytest.mark.parametrize(
    ("setting", "happens", "text"),
    [
        (
            "queue_minutes",
            lambda cluster: cluster.hold("no GPU"),
            r"has waited .*Unschedulable: no GPU",
        ),
        (
            "queue_minutes",
            lambda cluster: cluster.exceed_quota("exceeded quota: gpus"),
            r"has waited .*FailedCreate: .*-1-0\" is forbidden: exceeded quota",
        ),
        (
            "queue_minutes",
            lambda cluster: cluster.limit_range({"memory": "1Gi", "cpu": "1"}),
            r"has waited .*FailedCreate: .* must be less than or equal to cpu limit of 1",
        ),
        (
            "start_minutes",
            lambda cluster: cluster.break_mounts('secret "missing" not found'),
            r"did not start within .*FailedMount: secret \"missing\" not found",
        ),
        (
            "start_minutes",
            lambda cluster: cluster.break_images("ImagePullBackOff"),
            r"did not start within .*ImagePullBackOff",
        ),
    ],
)
def test_a_job_that_waits_for_too_long_is_given_up_and_gone(
    cluster: Cluster, directed: Make, setting: str, happens: Callable[[Cluster], None], text: str
) -> None:
    happens(cluster)
    training = directed(settings={setting: 2 / 60})
    with pytest.raises(WorkerError, match=text):
        training.launch()
    reasons = [line for line in training.log.splitlines() if " is waiting: " in line]
    assert len(reasons) <= 3, "once each"
    assert not cluster.jobs()
    assert is_free(cluster)


def test_a_job_that_runs_for_too_long_is_asked_to_save_and_gone(
    cluster: Cluster, directed: Make
) -> None:
    def let_it_begin(message: object) -> None:
        if " runs on " in getattr(message, "text", ""):
            training.wait("begun", 2)

    training = directed(settings={"run_minutes": 0.001}, on_message=let_it_begin)
    training.let(1)
    with pytest.raises(WorkerError, match="has reached run_minutes"):
        training.launch()
    assert "stopped at epoch 2" in training.log
    assert training.published == ["01"]
    assert not cluster.jobs()
    assert is_free(cluster)


def test_a_run_that_is_cancelled_takes_its_job_with_it(cluster: Cluster, directed: Make) -> None:
    training = directed(on_message=interrupt_at("01"))
    training.let(1)
    with pytest.raises(KeyboardInterrupt):
        training.launch()
    assert "stopped at epoch 2" in training.log
    assert not cluster.jobs()
    assert is_free(cluster)


def test_what_a_cancelled_job_still_saves_is_waited_for(cluster: Cluster, directed: Make) -> None:
    """The run is cancelled in epoch 2 and started again while the pod takes its time to save."""
    first = directed(on_message=interrupt_at("01"))
    first.hold_saving()
    first.let(1)
    first.start()
    cluster.wait(lambda: [job for job in cluster.jobs() if "deletionTimestamp" in job["metadata"]])
    second = directed(owner=Owner("run-2", "run-2", "fine_tune"), epochs=(2, 3))
    second.start()
    cluster.wait(lambda: "to finish saving the state this run resumes from" in second.log)
    assert len(cluster.jobs()) == 1
    first.let_save()
    assert isinstance(first.end(), KeyboardInterrupt)
    second.let()
    assert second.end() is None
    assert second.published == ["02", "03"]
    assert [second.times("trained", epoch) for epoch in (1, 2, 3)] == [1, 1, 1]
    assert is_free(cluster)


@pytest.mark.parametrize("policy", ["Foreground", "Background"])
def test_a_job_that_somebody_deletes_is_told_of_and_its_pods_are_waited_for(
    cluster: Cluster, directed: Make, policy: str
) -> None:
    """`kubectl delete job` deletes the Job at once, while its pod takes its time to save."""
    training = directed()
    training.hold_saving()
    training.start()
    training.wait("begun", 1)
    [job] = cluster.jobs()
    name = job["metadata"]["name"]
    cluster.controller.delete_job(job, policy)
    again = directed(owner=Owner("run-2", "run-2", "fine_tune"))
    again.start()
    what = f"Job {name}" if policy == "Foreground" else f"pod {name}-0-"
    cluster.wait(lambda: f"waiting for {what}" in again.log)
    assert len(cluster.running()) == 0
    training.let_save()
    error = training.end()
    assert isinstance(error, WorkerStopped)
    assert str(error).startswith(f"Job {name} was deleted: stopped at epoch 1")
    again.wait("begun", 1, times=2)
    again.let()
    assert again.end() is None
    assert is_free(cluster)


def test_a_pod_that_was_left_without_its_job_is_named(
    cluster: Cluster, directed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kubectl delete job --cascade=orphan`: nothing ends the pod."""
    for module in ("job_monitor", "launcher"):
        monkeypatch.setattr(f"dolly_assets.launchers.kubernetes.{module}.ORPHAN_SECONDS", 0)
    training = directed()
    training.start()
    training.wait("begun", 1)
    cluster.controller.delete_job(cluster.jobs()[0], "Orphan")
    assert isinstance(training.end(), WorkerStopped)
    with pytest.raises(WorkerError, match=r"still runs although its Job is gone: delete it"):
        directed(owner=Owner("run-2", "run-2", "fine_tune")).launch()


def test_a_job_goes_on_without_its_run_and_is_found_again(cluster: Cluster, directed: Make) -> None:
    """The run's machine is shut down in epoch 2; its re-execution wants what is left."""
    first = directed(is_cancelled=False, on_message=interrupt_at("01"))
    first.let(1)
    with pytest.raises(KeyboardInterrupt):
        first.launch()
    assert cluster.gpus_booked() == 1
    second = directed(owner=Owner("run-2", "run", "fine_tune"), epochs=(2, 3))
    second.let()
    second.launch()
    assert second.published == ["02", "03"]
    assert [second.times("begun", epoch) for epoch in (1, 2, 3)] == [1, 1, 1]
    assert is_free(cluster)


def test_a_job_outlives_a_run_that_is_killed(cluster: Cluster, directed: Make) -> None:
    """SIGKILL, which no handler sees; the Job ends, and the re-execution gets its messages."""
    training = directed(is_cancelled=False)
    launching = training.launch_apart()
    training.wait("begun", 1)
    launching.send_signal(signal.SIGKILL)
    launching.wait()
    training.let()
    cluster.wait(cluster.has_ended)
    again = directed(owner=Owner("run-2", "run", "fine_tune"))
    again.launch()
    assert again.published == ["01", "02", "03"]
    assert [again.times("begun", epoch) for epoch in (1, 2, 3)] == [1, 1, 1]
    assert is_free(cluster)


def test_a_job_that_trains_other_epochs_of_the_same_training_is_not_followed(
    cluster: Cluster, directed: Make
) -> None:
    training = directed(epochs=(2, 3))
    training.start()
    training.wait("begun", 2)
    with pytest.raises(TrainingError, match="is training other epochs of tiny on animals: wait"):
        directed(owner=Owner("run-2", "run-2", "fine_tune"), epochs=(1, 2, 3)).launch()
    training.let()
    assert training.end() is None


def test_a_namespace_that_is_being_deleted_ends_the_run_though_its_job_is_still_there(
    cluster: Cluster, directed: Make
) -> None:
    training = directed()
    training.start()
    training.wait("begun", 1)
    cluster.end_namespace()
    error = training.end()
    assert isinstance(error, WorkerStopped)
    assert str(error).startswith("namespace dolly is being deleted, with Job dolly-tiny-")
    assert str(error).endswith(": stopped at epoch 1")
    again = directed(owner=Owner("run-2", "run", "fine_tune"))
    again.start()
    assert "create it again when it is gone, or correct `namespace`" in str(again.end())
