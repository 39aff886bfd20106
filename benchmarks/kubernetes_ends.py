"""Brings about every end that a training in a cluster can take, and measures what comes of it.

    python benchmarks/kubernetes_ends.py [--trainings 12] [--only REGEX] [--seed 1]

The cluster is the tests' stand-in and its workers train nothing; launcher, client, watches,
messages and store are real, and so are the seconds, from what happens to the moment at which the
run has ended, has begun again, or says why it waits. Only the cluster's own times (grace periods)
pass 20 times as fast. At last so many trainings run beside each other while API, watches and logs
break and pods are evicted. Exit code 1 if an end is another than it should be, a GPU stays booked,
or an epoch is lost or trained twice.
"""

import argparse
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dolly_assets.core.names import epoch_key
from dolly_assets.launchers.base import Times
from dolly_assets.launchers.kubernetes.job import Owner
from dolly_assets_tests.kubernetes.cluster import Cluster
from dolly_assets_tests.kubernetes.directed import (
    LAUNCH,
    Directed,
    deployed_cluster,
    in_queue,
    interrupt_at,
)
from dolly_assets_tests.kubernetes.disturbing import Disturbing

AGAIN = Owner("run-2", "run", "fine_tune")  # a re-execution of the run


@dataclass
class Stage:
    """A cluster in which one end is brought about, and when that was and when it was noticed."""

    folder: Path
    cluster: Cluster
    trainings: list[Directed] = field(default_factory=list)
    happened: float = 0.0
    noticed: float = 0.0

    def training(self, **options: Any) -> Directed:
        """One that is not begun."""
        self.trainings.append(Directed(self.folder, self.cluster, **options))
        return self.trainings[-1]

    def in_epoch_2(self, **options: Any) -> Directed:
        """One that has trained its first epoch, and is in the second."""
        training = self.training(**options)
        training.let(1)
        training.start()
        self.cluster.wait(lambda: training.published == ["01"])
        training.wait("begun", 2, times=training.spec.family.compute.nodes)
        return training

    def now(self) -> None:
        """Make it happen."""
        self.happened = time.monotonic()

    def ended(self, training: Directed) -> str:
        """How it ends, which is when that is noticed."""
        error = training.end()
        self.noticed = self.noticed or time.monotonic()
        return str(error) if error else "done"

    def goes_on(self, training: Directed, begun: int) -> str:
        """Lets it end when it has begun epoch 2 so often, which is when that is noticed."""
        training.wait("begun", 2, times=begun)
        self.noticed = time.monotonic()
        training.let()
        end = self.ended(training)
        [times] = [message for message in training.messages if isinstance(message, Times)]
        return f"{end}, after {times.restarts} restart" if end == "done" else end

    def says(
        self, training: Directed, text: str, mend: Callable[[Cluster], None] = Cluster.release
    ) -> str:
        """Return why the run waits, once it does; then the cluster is repaired."""
        self.cluster.wait(lambda: text in training.log)
        self.noticed = time.monotonic()
        [line] = [line for line in training.log.splitlines() if text in line]
        mend(self.cluster)
        training.let()
        return f"says: {line.partition(' is waiting: ')[2]}; {self.ended(training)}"

    def epochs_lost(self) -> int:
        """Epochs that were trained, and are not in the store."""
        training = self.trainings[0]
        trained = [epoch for epoch in training.epochs if training.times("trained", epoch)]
        return sum(not training.history(epoch) for epoch in trained)

    def epochs_trained_twice(self) -> int:
        """By any pod of the same index."""
        training = self.trainings[0]
        nodes = training.spec.family.compute.nodes
        return sum(max(0, training.times("trained", epoch) - nodes) for epoch in training.epochs)


def success(stage: Stage) -> str:
    """Train the last epoch."""
    training = stage.in_epoch_2()
    training.let()
    training.wait("trained", 3)
    stage.now()
    return stage.ended(training)


def failure(how: str) -> Callable[[Stage], str]:
    """Let the second epoch fail."""

    def end(stage: Stage) -> str:
        training = stage.in_epoch_2()
        stage.now()
        training.fail(2, how)
        return stage.ended(training)

    return end


def host_out_of_memory(stage: Stage) -> str:
    """Let the kernel kill the worker."""
    training = stage.in_epoch_2()
    stage.now()
    stage.cluster.oom_kill(stage.cluster.running()[0])
    return stage.ended(training)


def disrupted(how: Callable[[Cluster, Any], None], nodes: int = 1) -> Callable[[Stage], str]:
    """Disrupt the last pod in the second epoch."""

    def end(stage: Stage) -> str:
        training = stage.in_epoch_2(compute={"nodes": nodes})
        stage.now()
        how(stage.cluster, max(stage.cluster.running(), key=lambda pod: pod["spec"]["hostname"]))
        return stage.goes_on(training, begun=2 * nodes)

    return end


def deleted_while_pending(stage: Stage) -> str:
    """Somebody deletes a pod that waits."""
    stage.cluster.hold("no GPU")
    training = stage.training()
    training.start()
    stage.cluster.wait(lambda: "no GPU" in training.log)
    [pod] = stage.cluster.pods()
    stage.now()
    stage.cluster.delete(pod)
    stage.cluster.wait(lambda: f"{pod['metadata']['name']} disappeared" in training.log)
    stage.noticed = time.monotonic()
    stage.cluster.release()
    training.let()
    return stage.ended(training)


def disrupted_too_often(stage: Stage) -> str:
    """One disruption more than it may have."""
    training = stage.training(settings={"restarts": 1})
    training.start()
    for times in (1, 2):
        training.wait("begun", 1, times=times)
        stage.now()
        stage.cluster.evict(stage.cluster.running()[0])
    return stage.ended(training)


def waits_too_long(setting: str, how: Callable[[Cluster], None]) -> Callable[[Stage], str]:
    """Keep the Job from running for longer than a setting allows."""
    seconds = 3

    def end(stage: Stage) -> str:
        how(stage.cluster)
        training = stage.training(settings={setting: seconds / 60})
        training.start()
        stage.cluster.wait(
            lambda: (
                stage.cluster.jobs() if setting == "queue_minutes" else stage.cluster.gpus_booked()
            )
        )
        stage.happened = time.monotonic() + seconds
        return stage.ended(training)

    return end


def runs_too_long(stage: Stage) -> str:
    """End the first epoch, and not the second within `run_minutes`."""
    seconds = 3
    training = stage.training(settings={"run_minutes": seconds / 60})
    training.let(1)
    training.start()
    stage.cluster.wait(lambda: " runs on " in training.log)
    stage.happened = time.monotonic() + seconds
    return stage.ended(training)


def cancelled(stage: Stage) -> str:
    """Interrupted in the second epoch."""

    def interrupt(message: object) -> None:
        if getattr(message, "name", "").endswith(f"model_checkpoint/animals/{epoch_key(1)}"):
            training.wait("begun", 2)
            stage.now()
            raise KeyboardInterrupt

    training = stage.training(on_message=interrupt)
    training.let(1)
    training.start()
    ended = f"{stage.ended(training)}{_said(training, 'stopped at')}"
    return f"{ended}, {len(stage.cluster.jobs())} Jobs left"


def cancelled_in_the_queue(stage: Stage) -> str:
    """Interrupted while it waits."""

    def interrupt(message: object) -> None:
        if "Insufficient" in getattr(message, "text", ""):
            stage.now()
            raise KeyboardInterrupt

    stage.cluster.hold("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    training = stage.training(on_message=interrupt)
    training.start()
    return f"{stage.ended(training)}, {len(stage.cluster.jobs())} Jobs left"


def cancelled_and_asked_again(stage: Stage) -> str:
    """Interrupted in the second epoch, and started again while its pod takes its time to save."""
    training = stage.training(on_message=interrupt_at(epoch_key(1)))
    training.hold_saving()
    training.let(1)
    training.start()
    stage.cluster.wait(
        lambda: [job for job in stage.cluster.jobs() if "deletionTimestamp" in job["metadata"]]
    )
    again = stage.training(owner=Owner("run-2", "run-2", "fine_tune"), epochs=(2, 3))
    stage.now()
    again.start()
    stage.cluster.wait(lambda: " to finish saving " in again.log)
    stage.noticed = time.monotonic()
    training.let_save()
    assert isinstance(training.end(), KeyboardInterrupt)
    again.let()
    return f"{stage.ended(again)}{_said(again, ' to finish saving ')}"


def run_killed(stage: Stage, *, has_ended: bool = False) -> str:
    """Kill the process that follows the Job; its re-execution follows it, or finds its end."""
    training = stage.training(is_cancelled=False)
    launching = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(stage.folder)], stderr=subprocess.DEVNULL
    )
    training.let(1)
    training.wait("begun", 2)
    launching.send_signal(signal.SIGKILL)
    launching.wait()
    if has_ended:
        training.let()
        stage.cluster.wait(stage.cluster.has_ended)
    again = stage.training(owner=AGAIN)
    stage.now()
    again.start()
    stage.cluster.wait(lambda: again.published[:1] == ["01"])
    stage.noticed = time.monotonic()
    again.let()
    end = stage.ended(again)
    begun = [again.times("begun", epoch) for epoch in again.epochs]
    said = _said(again, " this work")
    return f"{end}, {'/'.join(again.published)} reported, epochs begun {begun} times{said}"


def ended_without_a_run(stage: Stage) -> str:
    """Do the same, while the Job ends meanwhile."""
    return run_killed(stage, has_ended=True)


def orphaned(stage: Stage) -> str:
    """End the run, and evaluate the sensor."""
    from dolly_assets_tests.kubernetes.orphans import look_for_orphans, run_that_is_over

    with run_that_is_over() as (instance, run_id):
        training = stage.training(
            is_cancelled=False,
            on_message=interrupt_at(epoch_key(1)),
            owner=Owner(run_id, run_id, "fine_tune"),
        )
        training.let(1)
        training.start()
        assert isinstance(training.end(), KeyboardInterrupt)
        training.wait("begun", 2)
        stage.now()
        said = look_for_orphans(instance, stage.folder)
        stage.cluster.wait(lambda: not stage.cluster.jobs())
        stage.noticed = time.monotonic()
        return said


def job_deleted(policy: str) -> Callable[[Stage], str]:
    """Somebody deletes the Job in the second epoch."""

    def end(stage: Stage) -> str:
        training = stage.in_epoch_2()
        stage.now()
        stage.cluster.controller.delete_job(stage.cluster.jobs()[0], policy)
        return stage.ended(training)

    return end


def deleted_and_asked_again(stage: Stage) -> str:
    """Delete the Job in the background, while its pod takes its time to save."""
    training = stage.in_epoch_2()
    training.hold_saving()
    stage.cluster.controller.delete_job(stage.cluster.jobs()[0], "Background")
    again = stage.training(owner=Owner("run-2", "run-2", "fine_tune"), epochs=(2, 3))
    stage.now()
    again.start()
    stage.cluster.wait(lambda: " to finish saving " in again.log)
    stage.noticed = time.monotonic()
    pods = len(stage.cluster.pods())
    training.let_save()
    training.end()
    again.let()
    return f"{stage.ended(again)}, {pods} pod meanwhile{_said(again, ' to finish saving ')}"


def silent_node(stage: Stage) -> str:
    """Silence the node of a pod until the pod is given up, then delete the node."""
    training = stage.in_epoch_2()
    [pod] = stage.cluster.running()
    stage.now()
    stage.cluster.silence(pod)
    stage.cluster.wait(lambda: "does not answer: " in training.log)
    stage.noticed = time.monotonic()
    stage.cluster.give_up(pod)
    stage.cluster.wait(lambda: "kubectl delete node" in training.log)
    stage.cluster.lose(pod)
    training.wait("begun", 2, times=2)
    training.let()
    return f"{stage.ended(training)}{_said(training, 'kubectl delete node')}"


def refused(stage: Stage) -> str:
    """Admission does not take the Job."""
    stage.cluster.deny("images come from here only")
    training = stage.training()
    stage.now()
    training.start()
    return stage.ended(training)


def waits(how: Callable[[Cluster], None], text: str) -> Callable[[Stage], str]:
    """Something keeps it from running for a while."""

    def end(stage: Stage) -> str:
        how(stage.cluster)
        training = stage.training()
        stage.now()
        training.start()
        return stage.says(training, text)

    return end


def waits_in_a_queue(stage: Stage) -> str:
    """Kueue does not admit the Job for a while."""
    stage.cluster.queue("trainings", before=3)
    training = stage.training(compute=in_queue("trainings"))
    stage.now()
    training.start()
    return stage.says(training, "in the queue", Cluster.admit)


def _said(training: Directed, text: str) -> str:
    return "".join(f"; {line}" for line in training.log.splitlines() if text in line)


NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
ENDS: list[tuple[str, Callable[[Stage], str], str]] = [
    ("success", success, r"^done$"),
    (
        "error in code",
        failure("KeyError"),
        r"KeyError: what; Job .* has failed\n(.*\n)*the last words of a worker",
    ),
    ("error of the user", failure("TrainingError"), r"^change this$"),
    ("exit without a word", failure("3"), r"PodFailurePolicy: .*exit code 3"),
    (
        "out of host memory",
        host_out_of_memory,
        r"raise compute.memory_gib from 8, or change one of",
    ),
    (
        "out of GPU memory",
        failure("OutOfMemoryError"),
        r"out of memory \(.*\): change one of: recipe.micro_batch_size",
    ),
    ("pod evicted", disrupted(Cluster.evict), r"^done, after 1 restart"),
    ("pod preempted", disrupted(Cluster.preempt), r"^done, after 1 restart"),
    ("pod deleted", disrupted(Cluster.delete), r"^done, after 1 restart"),
    ("pod deleted while pending", deleted_while_pending, r"^done$"),
    ("node lost", disrupted(Cluster.lose), r"^done, after 1 restart"),
    ("node lost, of two", disrupted(Cluster.lose, 2), r"^done, after 1 restart"),
    ("node rebooted", disrupted(Cluster.reboot), r"^done, after 1 restart"),
    (
        "node silent, then deleted",
        silent_node,
        r"^done; .* is to end, which its node .*kubectl delete",
    ),
    ("disk exceeded", disrupted(Cluster.fill_disk), r"^done, after 1 restart"),
    ("node lost, of four", disrupted(Cluster.lose, 4), r"^done, after 1 restart"),
    (
        "too many disruptions",
        disrupted_too_often,
        r"was disrupted more than 1 times; giving up",
    ),
    (
        "deadline in the queue",
        waits_too_long("queue_minutes", lambda it: it.hold(NO_GPU)),
        r"has waited for 3 s .*Insuff",
    ),
    (
        "deadline in the start",
        waits_too_long("start_minutes", lambda it: it.break_images("ErrImagePull")),
        r"did not start within 3 s .*ErrImagePull",
    ),
    (
        "deadline in the run",
        runs_too_long,
        r"has reached run_minutes \(3 s\)",
    ),
    ("cancelled", cancelled, r"stopped at epoch 2, 0 Jobs left$"),
    ("cancelled in the queue", cancelled_in_the_queue, r"^, 0 Jobs left$"),
    (
        "cancelled, asked again",
        cancelled_and_asked_again,
        r"^done; waiting for Job .* to finish saving the state this run resumes from",
    ),
    (
        "run's worker killed",
        run_killed,
        r"^done, 01/02/03 reported, epochs begun \[1, 1, 1\] times.*is already doing this work",
    ),
    (
        "run's worker killed, Job ends",
        ended_without_a_run,
        r"^done, 01/02/03 reported, epochs begun \[1, 1, 1\] times.*has already done this work",
    ),
    ("nobody runs it again", orphaned, r"^deleted dolly-tiny-"),
    (
        "Job deleted by a user",
        job_deleted("Foreground"),
        r"Job .* was deleted: stopped at epoch 2",
    ),
    (
        "Job deleted in the background",
        job_deleted("Background"),
        r"Job .* was deleted: stopped at epoch 2",
    ),
    (
        "Job deleted, asked again",
        deleted_and_asked_again,
        r"^done, 1 pod meanwhile; waiting for pod .* to finish saving",
    ),
    ("refused by the cluster", refused, r"the cluster rejected Job .*images come from here only"),
    (
        "waits: no GPU",
        waits(lambda it: it.hold(NO_GPU), "Insufficient"),
        r"says: Unschedulable: .*Insuff.*; done",
    ),
    ("waits: queue", waits_in_a_queue, r"says: in the queue trainings, 3 ahead of it; done"),
    (
        "waits: quota",
        waits(lambda it: it.exceed_quota("exceeded quota: gpus"), "exceeded"),
        r"says: .*quota.*; done",
    ),
    (
        "waits: image",
        waits(lambda it: it.break_images("ImagePullBackOff"), "PullBack"),
        r"says: ImagePullBackOff.*; done",
    ),
    (
        "waits: volume",
        waits(lambda it: it.break_mounts('secret "missing" not found'), "FailedMount"),
        r"says: FailedMount: secret \"missing\" not found; done",
    ),
    (
        "waits: limit",
        waits(lambda it: it.limit_range({"cpu": "1"}), "FailedCreate"),
        r"says: FailedCreate: .*less than or equal to cpu limit of 1; done",
    ),
]


def main() -> int:
    """Run all scenarios and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainings", type=int, default=12)
    parser.add_argument("--only", default="", metavar="REGEX", help="of the ends")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(
        "| end | seconds to notice | outcome | GPUs left booked | epochs lost | trained twice | |"
    )
    print("| --- | ---: | --- | ---: | ---: | ---: | --- |")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        numbered = itertools.count()
        ends = [item for item in ENDS if re.search(arguments.only, item[0])]
        for name, end, expected in ends:
            with staged(Path(folder) / str(next(numbered))) as stage:
                wrong += not measure(stage, name, end, expected)
        with staged(Path(folder) / "many") as stage:
            wrong += not beside_each_other(
                stage, arguments.trainings, random.Random(arguments.seed)
            )
    print(
        f"\n{wrong} of {len(ends) + 1} are not as they should be"
        if wrong
        else f"\nall {len(ends) + 1} as they should be"
    )
    return int(wrong > 0)


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Yield a stage of its own for one scenario."""
    with deployed_cluster(folder / "cluster") as cluster:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        yield Stage(folder, cluster)


def measure(stage: Stage, name: str, end: Callable[[Stage], str], expected: str) -> bool:
    """Brings one end about and prints its line; whether all is as it should be."""
    try:
        outcome = end(stage)
    except Exception:  # noqa: BLE001 the others are measured all the same
        traceback.print_exc()
        outcome = f"BROKEN: {traceback.format_exc().splitlines()[-1]}"
    counts = stage.cluster.gpus_booked(), stage.epochs_lost(), stage.epochs_trained_twice()
    is_right = bool(re.search(expected, outcome)) and not any(counts)
    text = " ".join(
        re.sub(
            r"dolly-tiny-[0-9a-f]{12}-1(-0-[0-9a-f]{5})?", lambda it: "P" if it[1] else "J", outcome
        ).split()
    )
    seconds = f"{stage.noticed - stage.happened:.1f}" if stage.noticed else "?"
    print(
        f"| {name} | {seconds} | {text[:160]} | {' | '.join(map(str, counts))} "
        f"| {'' if is_right else 'WRONG'} |",
        flush=True,
    )
    return is_right


def beside_each_other(stage: Stage, count: int, chance: random.Random) -> bool:
    """Trains so often at once while things break; prints a line; whether all have ended right."""
    trainings = [Directed(stage.folder / str(number), stage.cluster) for number in range(count)]
    began = time.monotonic()
    for training in trainings:
        training.let()
        training.start()
    with Disturbing(stage.cluster, chance, evictions=count // 2) as disturbing:
        errors = [training.end() for training in trainings]
    seconds = time.monotonic() - began
    twice = sum(
        training.times("trained", epoch) > 1 for training in trainings for epoch in training.epochs
    )
    whole = sum(
        training.is_whole() and len(training.published) == len(training.epochs)
        for training in trainings
    )
    booked = stage.cluster.gpus_booked()
    done = ", ".join(f"{number} {what}" for what, number in disturbing.counts.most_common())
    print(
        f"\n{count} trainings at once: {whole} whole, {twice} epochs trained twice, "
        f"{booked} GPUs left booked, "
        f"{seconds:.0f} s"
    )
    print(f"meanwhile: {done}")
    for error in filter(None, errors):
        print(f"WRONG: {error}")
    return whole == count and not any(errors) and not twice and not booked


if __name__ == "__main__":
    sys.exit(main())
