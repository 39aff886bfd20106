"""Ends that the stand-in and a real cluster can both be made to bring about."""

import signal
import time
from collections.abc import Callable
from typing import Any

from benchmarks.kubernetes_ends.stage import End, Stage
from dolly_assets.launchers.kubernetes.job import Owner
from dolly_assets_tests.kubernetes.directed import Directed, interrupt_at
from dolly_assets_tests.kubernetes.hands import Hand
from dolly_assets_tests.kubernetes.orphans import look_for_orphans, run_that_is_over

Act = Callable[[Stage[Hand]], str]
AGAIN = Owner("run-2", "run", "fine_tune")  # a re-execution of the run
OTHER = Owner("run-2", "run-2", "fine_tune")
SECONDS = 8.0  # of a deadline


def success(stage: Stage[Hand]) -> str:
    """Train the last epoch."""
    training = stage.in_epoch_2()
    training.let()
    training.wait("trained", 3)
    stage.now()
    return stage.end(training)


def fails(how: str) -> Act:
    """Let a worker end the second epoch with an error."""

    def end(stage: Stage[Hand]) -> str:
        training = stage.in_epoch_2()
        stage.now()
        training.fail(2, how)
        return stage.end(training)

    return end


def exits(code: int, nodes: int = 1) -> Act:
    """Let one worker exit with a code that means a disruption."""

    def end(stage: Stage[Hand]) -> str:
        training = stage.in_epoch_2(compute={"nodes": nodes})
        stage.now()
        training.fail(2, str(code))
        return stage.resumes(training)

    return end


def out_of_memory(stage: Stage[Hand]) -> str:
    """Let the kernel kill the worker."""
    training = stage.in_epoch_2()
    stage.now()
    stage.hand.take_memory(training)
    return stage.end(training)


def out_of_disk(stage: Stage[Hand]) -> str:
    """Let the kubelet evict the pod for its disk."""
    training = stage.in_epoch_2(compute={"kubernetes": {"ephemeral_storage_gib": 0.05}})
    stage.now()
    stage.hand.take_disk(training)
    return stage.resumes(training)


def disrupted(how: Callable[[Any], object], nodes: int = 1) -> Act:
    """Disrupt the last pod in the second epoch."""

    def end(stage: Stage[Hand]) -> str:
        training = stage.in_epoch_2(compute={"nodes": nodes})
        stage.now()
        how(stage.hand)
        return stage.resumes(training)

    return end


def too_often(stage: Stage[Hand]) -> str:
    """Disrupt it once more than it may be."""
    training = stage.training(settings={"restarts": 1})
    training.start()
    for times in (1, 2):
        training.wait("begun", 1, times=times)
        stage.now()
        stage.hand.evict()
    return stage.end(training)


def never_starts(stage: Stage[Hand]) -> str:
    """Name a program that the image does not have."""
    stage.hand.break_starts()
    training = stage.training(settings={"restarts": 1})
    stage.now()
    training.start()
    return stage.end(training)


def waits(how: Callable[[Any], object], text: str) -> Act:
    """Keep it from running for a while."""

    def end(stage: Stage[Hand]) -> str:
        how(stage.hand)
        training = stage.training()
        stage.now()
        training.start()
        stage.hears(text)
        stage.remove()
        stage.is_back(training, epoch=1, times=1)
        return stage.completes(training)

    return end


def waits_too_long(setting: str, how: Callable[[Any], object]) -> Act:
    """Keep it from running for longer than a setting allows."""

    def end(stage: Stage[Hand]) -> str:
        how(stage.hand)
        training = stage.training(settings={setting: SECONDS / 60})
        training.start()
        stage.wait(stage.hand.jobs if setting == "queue_minutes" else stage.hand.gpus_booked)
        stage.happened = time.monotonic() + SECONDS
        return stage.end(training)

    return end


def runs_too_long(stage: Stage[Hand]) -> str:
    """End the first epoch, and not the second within `run_minutes`."""
    training = stage.training(settings={"run_minutes": SECONDS / 60})
    training.let(1)
    training.start()
    stage.hears(" runs on ")
    stage.happened = time.monotonic() + SECONDS
    return stage.end(training)


def cancelled(stage: Stage[Hand]) -> str:
    """Interrupt the run in the second epoch."""

    def interrupt(message: object) -> None:
        if getattr(message, "name", "").endswith("model_checkpoint/animals/01"):
            training.wait("begun", 2)
            stage.now()
            raise KeyboardInterrupt

    training = stage.training(on_message=interrupt)
    training.let(1)
    training.start()
    return f"{stage.end(training)}, {stage.hand.jobs()} Jobs left"


def cancelled_in_the_queue(stage: Stage[Hand]) -> str:
    """Interrupt the run while it waits."""

    def interrupt(message: object) -> None:
        if "Insufficient" in getattr(message, "text", ""):
            stage.now()
            raise KeyboardInterrupt

    stage.hand.hold()
    training = stage.training(on_message=interrupt)
    training.start()
    return f"{stage.end(training)}, {stage.hand.jobs()} Jobs left"


def cancelled_and_requested_again(stage: Stage[Hand]) -> str:
    """Interrupt the run, and start another one while its pod takes its time to save."""
    training = stage.training(on_message=interrupt_at("01"))
    training.hold_saving()
    training.let(1)
    training.start()
    stage.wait(lambda: training.published == ["01"] and not stage.hand.jobs())
    return _another(stage, training)


def deleted_and_requested_again(stage: Stage[Hand]) -> str:
    """Delete the Job in the background, and start another run while its pod still saves."""
    training = stage.in_epoch_2()
    training.hold_saving()
    stage.hand.delete_job("Background")
    return _another(stage, training)


def _another(stage: Stage[Hand], training: Directed) -> str:
    again = stage.training(owner=OTHER, epochs=(2, 3))
    stage.now()
    again.start()
    stage.hears(" to finish saving ")
    pods = stage.hand.pods()
    training.let_save()
    stage.removed = time.monotonic()
    training.end()
    again.wait("begun", 2, times=again.times("begun", 2) + 1)
    stage.back = time.monotonic()
    return f"{stage.completes(again)}, {pods} pod meanwhile"


def run_killed(stage: Stage[Hand], *, has_ended: bool = False) -> str:
    """Kill the process that follows the Job; its re-execution reattaches, or finds its end."""
    training = stage.training(is_cancelled=False)
    launching = training.launch_apart()
    training.let(1)
    training.wait("begun", 2)
    launching.send_signal(signal.SIGKILL)
    launching.wait()
    if has_ended:
        training.let()
        stage.wait(lambda: not stage.hand.jobs())
    again = stage.training(owner=AGAIN)
    stage.now()
    again.start()
    stage.wait(lambda: again.published[:1] == ["01"])
    end = stage.completes(again)
    begun = [again.times("begun", epoch) for epoch in again.epochs]
    return f"{end}, {'/'.join(again.published)} reported, begun {begun} times"


def ended_without_a_run(stage: Stage[Hand]) -> str:
    """Do the same, while the Job ends meanwhile."""
    return run_killed(stage, has_ended=True)


def orphaned(stage: Stage[Hand]) -> str:
    """End the run for good, and evaluate the sensor."""
    with run_that_is_over() as (instance, run_id):
        training = stage.training(
            is_cancelled=False,
            on_message=interrupt_at("01"),
            owner=Owner(run_id, run_id, "fine_tune"),
        )
        training.let(1)
        training.start()
        training.end()
        training.wait("begun", 2)
        stage.now()
        namespace = training.launcher.settings.namespace
        said = look_for_orphans(instance, stage.hand.folder, namespace)
        stage.lines.append((time.monotonic(), said))
        stage.wait(lambda: not stage.hand.pods())
        return f"{stage.hand.jobs()} Jobs left"


def job_deleted(policy: str) -> Act:
    """Delete the Job in the second epoch."""

    def end(stage: Stage[Hand]) -> str:
        training = stage.in_epoch_2()
        stage.now()
        stage.hand.delete_job(policy)
        return stage.end(training)

    return end


def silent_for_a_while(stage: Stage[Hand]) -> str:
    """Pull the cable of the node until the run says so."""
    training = stage.in_epoch_2()
    stage.now()
    stage.hand.silence()
    stage.hears("does not answer")
    stage.hand.answer()
    stage.hears("answers again")
    return stage.completes(training)


def refused(stage: Stage[Hand]) -> str:
    """Let admission refuse the Job."""
    stage.hand.deny()
    training = stage.training()
    stage.now()
    training.start()
    return stage.end(training)


ONCE = r"^done, 1 restart$"
ENDS: list[End[Hand]] = [
    End("success", success, r"^done$", None),
    End("error in code (exit code 1)", fails("KeyError"), r"^failed$", r"KeyError: what; Job "),
    End("error of the user (2)", fails("TrainingError"), r"^failed$", r"^change this$"),
    End("exit without a word (3)", fails("3"), r"^failed$", r"PodFailurePolicy: .*exit code 3"),
    End("abort of the only pod (134)", fails("134"), r"^failed$", r"exited with code 134"),
    End("abort of one of two pods (134)", exits(134, 2), ONCE, r"exited with code 134"),
    End("killed by someone (137)", exits(137), ONCE, r"was killed \(exit code 137\)"),
    End("ended by SIGTERM (143)", exits(143), ONCE, r"exited with code 143"),
    End(
        "out of host memory (OOMKilled)",
        out_of_memory,
        r"^failed$",
        r"\(OOMKilled\)\): raise compute.memory_gib from .*, or change",
    ),
    End(
        "out of GPU memory",
        fails("OutOfMemoryError"),
        r"^failed$",
        r"out of memory \(.*\): change one of: recipe.micro_batch_size",
    ),
    End("local disk exceeded", out_of_disk, ONCE, r"Evicted: .*raise .*ephemeral_storage_gib"),
    End(
        "no such program in the image",
        never_starts,
        r"^failed$",
        r"has no no-such-program .*StartErr",
    ),
    End("pod evicted", disrupted(lambda hand: hand.evict()), ONCE, r"was evicted \("),
    End("pod evicted, of four", disrupted(lambda hand: hand.evict(), 4), ONCE, r"was evicted \("),
    End("pod evicted, of eight", disrupted(lambda hand: hand.evict(), 8), ONCE, r"was evicted \("),
    End("pod preempted", disrupted(lambda hand: hand.preempt()), ONCE, r"was preempted \("),
    End("pod deleted", disrupted(lambda hand: hand.delete()), ONCE, r"exited with code 75"),
    End("node rebooted", disrupted(lambda hand: hand.reboot()), ONCE, r"has restarted \("),
    End("node deleted", disrupted(lambda hand: hand.lose()), ONCE, r"was lost with its node \("),
    End("node deleted, of two", disrupted(lambda hand: hand.lose(), 2), ONCE, r"was lost with its"),
    End("node silent for a while", silent_for_a_while, r"^done$", r"does not answer: "),
    End("too many disruptions", too_often, r"^failed$", r"disrupted more than 1 times; giving up"),
    End(
        "deadline in the queue",
        waits_too_long("queue_minutes", lambda hand: hand.hold()),
        r"^failed$",
        r"has waited for 8 s .*Insufficient",
    ),
    End(
        "deadline in the start",
        waits_too_long("start_minutes", lambda hand: hand.break_images()),
        r"^failed$",
        r"did not start within 8 s .*(ErrImagePull|ImagePullBackOff)",
    ),
    End("deadline in the run", runs_too_long, r"^failed$", r"has reached run_minutes \(8 s\)"),
    End("run cancelled", cancelled, r"^cancelled, 0 Jobs left$", r"stopped at epoch 2"),
    End("cancelled in the queue", cancelled_in_the_queue, r"^cancelled, 0 Jobs", r"stopping Job"),
    End(
        "cancelled, requested again",
        cancelled_and_requested_again,
        r"^done, 1 pod meanwhile$",
        r"waiting for (Job|pod) .* to finish saving the state this run resumes from",
    ),
    End("run killed", run_killed, r"^done, 01/02/03 .*\[1, 1, 1\]", r"is already doing this work"),
    End(
        "run killed, its Job ends",
        ended_without_a_run,
        r"^done, 01/02/03 reported, begun \[1, 1, 1\] times$",
        r"has already done this work",
    ),
    End("run never executed again", orphaned, r"^0 Jobs left$", r"^deleted dolly-tiny-"),
    End("Job deleted, foreground", job_deleted("Foreground"), r"^stopped$", r"deleted: stopped at"),
    End("Job deleted, background", job_deleted("Background"), r"^stopped$", r"deleted: stopped at"),
    End(
        "Job deleted, requested again",
        deleted_and_requested_again,
        r"^done, 1 pod meanwhile$",
        r"waiting for pod .* to finish saving",
    ),
    End("refused by admission", refused, r"^failed$", r"rejected Job .*images come from here only"),
    End(
        "waits: no GPU",
        waits(lambda hand: hand.hold(), "Insufficient"),
        r"^done$",
        r"Unschedulable: .*Insufficient nvidia.com/gpu",
    ),
    End(
        "waits: quota",
        waits(lambda hand: hand.exceed_quota(), "exceeded quota"),
        r"^done$",
        r"exceeded quota: gpus",
    ),
    End(
        "waits: LimitRange",
        waits(lambda hand: hand.limit_range(), "FailedCreate"),
        r"^done$",
        r"is waiting: FailedCreate: ",
    ),
    End(
        "waits: image",
        waits(lambda hand: hand.break_images(), "Image"),
        r"^done$",
        r"is waiting: (ErrImagePull|ImagePullBackOff)",
    ),
    End(
        "waits: Secret",
        waits(lambda hand: hand.break_mounts(), "FailedMount"),
        r"^done$",
        r'FailedMount: .*secret "absent" not found',
    ),
]
