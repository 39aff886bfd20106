"""One training in two pods under one seeded disruption after another, and what it cost."""

import argparse
import contextlib
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.kubernetes_demo import here
from benchmarks.kubernetes_demo.bench import Demo, on_a_real_cluster
from dolly_assets_tests.kubernetes.real import PROGRAM
from dolly_assets_tests.kubernetes.real_hand import RealHand

HERE, NAME = "two", "two_pods"
AWAY_SECONDS = 20.0  # of what is taken away for a while
LOOK_SECONDS = 1.0  # between readings of the store
UNDISTURBED = 2  # epochs, before the disruptions and after them
MOST_EPOCHS = 99  # the training is stopped when its time is over
DISRUPTIONS: dict[str, Callable[[RealHand], object]] = {
    "node drained": RealHand.drain,
    "node crashed": lambda hand: hand.on_node("crash", undo="node"),
    "node rebooted": RealHand.reboot,
    "cable pulled": lambda hand: hand.on_node("cut", undo="join"),
    "node frozen": lambda hand: hand.on_node("freeze", undo="thaw"),
    "kubelet restarted": lambda hand: hand.on_node("kubelet"),
    "API server killed": lambda hand: hand.kill_control_plane("kube-apiserver"),
    "etcd killed": lambda hand: hand.kill_control_plane("etcd"),
    "scheduler and controllers killed": lambda hand: hand.kill_control_plane(
        "kube-scheduler", "kube-controller-manager"
    ),
}


@dataclass
class Soak:
    """Disrupts a training for a while, and stops it when it has then trained undisturbed.

    Attributes:
        at: What was done, and when.
        began, ended: When the disruptions began and ended.
        is_over: Whether the training has ended.
    """

    bench: Demo
    hand: RealHand
    chance: random.Random
    every_seconds: float
    seconds: float

    def __post_init__(self) -> None:
        self.at: list[tuple[float, str]] = []
        self.began = self.ended = time.time()
        self.is_over = threading.Event()

    def run(self) -> None:
        """Disrupt again and again, then stop the training as Ctrl-C does."""
        try:
            self._train_undisturbed()
            self.began = time.time()
            self._disrupt(until=self.began + self.seconds)
            self.ended = time.time()
            self._train_undisturbed()
        finally:
            if not self.is_over.is_set():
                os.kill(os.getpid(), signal.SIGINT)

    def whole(self) -> list[float]:
        """Return when each whole epoch was published."""
        return self.bench.published_at(NAME)

    def _train_undisturbed(self) -> None:
        """Wait for epochs that nothing disrupts, after the one that is in training."""
        last = len(self.whole()) + 1 + UNDISTURBED
        while len(self.whole()) < last and not self.is_over.wait(LOOK_SECONDS):
            pass

    def undisturbed(self) -> float:
        """Return the median seconds of the epochs during which nothing was disrupted.

        They are of the whole training: what else the machine does changes meanwhile.
        """
        found = self.whole()
        return statistics.median(
            end - begin
            for begin, end in pairwise(found)
            if not any(at < end and at + AWAY_SECONDS > begin for at, _ in self.at)
        )

    def _disrupt(self, until: float) -> None:
        """Disrupt until then; every kind comes before one comes again."""
        kinds: list[str] = []
        while time.time() < until and not self.is_over.is_set():
            begins = time.time()
            kinds = kinds or self.chance.sample(list(DISRUPTIONS), len(DISRUPTIONS))
            kind = kinds.pop()
            try:
                self._disrupt_once(kind)
            except Exception as error:  # noqa: BLE001 the cluster still suffers from an earlier one
                print(f"{kind}: skipped, {type(error).__name__}: {error}", flush=True)
            self.is_over.wait(max(0.0, begins + self.every_seconds - time.time()))

    def _disrupt_once(self, kind: str) -> None:
        at = time.time()
        DISRUPTIONS[kind](self.hand)
        self.at.append((at, kind))
        print(f"{time.strftime('%H:%M:%S')} {kind}", flush=True)
        self.is_over.wait(AWAY_SECONDS)
        self.hand.release()

    def report(self) -> None:
        """Print effective training time and restarts."""
        whole = sum(self.began < at <= self.ended for at in self.whole())
        undisturbed, elapsed = self.undisturbed(), self.ended - self.began
        kinds = Counter(kind for _, kind in self.at)
        print(f"{len(self.at)} disruptions: {', '.join(f'{n} {k}' for k, n in kinds.items())}")
        print(
            f"{whole} epochs whole in {elapsed:.0f} s, undisturbed {undisturbed:.0f} s each: "
            f"effective training time {100 * whole * undisturbed / elapsed:.0f} %"
        )
        back = restarts(self.bench, [at for at, _ in self.at])
        if len(back) > 1:
            p95 = statistics.quantiles(back, n=20, method="inclusive")[-1]
            print(f"{len(back)} restarts: p50 {statistics.median(back):.0f} s, p95 {p95:.0f} s")
        print("each: " + ", ".join(f"{seconds:.0f}" for seconds in back))


def main() -> int:
    """Run the soak, then the same epochs without disruptions here, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="of disruptions")
    parser.add_argument("--every", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=int, default=1200)
    parser.add_argument("--cluster", metavar="PROGRAM", default=os.environ.get(PROGRAM))
    parser.add_argument(
        "--beside", action="store_true", help="train here at the same time, not afterwards"
    )
    arguments = parser.parse_args()
    if not arguments.cluster:
        parser.error(f"a real cluster is needed: set {PROGRAM} or --cluster")
    os.environ[PROGRAM] = arguments.cluster
    with on_a_real_cluster() as (hand, settings):
        bench = Demo(hand, settings, arguments.records, MOST_EPOCHS, (HERE, NAME))
        bench.prepare(HERE)
        bench.prepare(NAME)
        chance = random.Random(arguments.seed)
        soak = Soak(bench, hand, chance, arguments.every, 60 * arguments.minutes)
        with contextlib.ExitStack() as stack:
            beside = None
            if arguments.beside:
                beside = stack.enter_context(here.training_beside(bench, HERE))
            disturbed(bench, soak)
            soak.report()
            is_right = is_well_ended(bench, soak)
            if beside:
                here.wait_for(bench, HERE, beside)
            else:
                bench.train(HERE, bench.here)
        equal = bench.weights(HERE) == bench.weights(NAME)
    print(f"weights {'equal' if equal else 'DIFFER'} to the undisturbed training's here (SHA-256)")
    return int(not (equal and is_right))


def is_well_ended(bench: Demo, soak: Soak) -> bool:
    """Whether each whole epoch was published once, which alone are compared, and GPUs are free."""
    bench.epochs = range(1, len(soak.whole()) + 1)
    published = Counter(bench.count(NAME, epoch) for epoch in bench.epochs)
    for times, epochs in published.items():
        print(f"{epochs} epochs published {times} times")
    booked = soak.hand.gpus_booked()
    print(f"{booked} GPUs booked")
    return set(published) == {1} and not booked


def disturbed(bench: Demo, soak: Soak) -> None:
    """Train until the soak stops it."""
    thread = threading.Thread(target=soak.run)
    thread.start()
    try:
        bench.train(NAME, bench.in_pods)
    except KeyboardInterrupt:
        print("stopped: the time is over", flush=True)
    finally:
        soak.is_over.set()
        thread.join()


def restarts(bench: Demo, disruptions: list[float]) -> list[float]:
    """Return the seconds from each disruption that ended pods until all pods ran again."""
    runs_on = [at for at, text in bench.log(NAME) if " runs on " in text][1:]  # first: the start
    found = []
    for at in runs_on:
        if before := [moment for moment in disruptions if moment < at]:
            found.append(at - before[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
