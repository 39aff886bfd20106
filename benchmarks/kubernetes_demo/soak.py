"""One training in two pods under one seeded disruption after another, and what it cost."""

import argparse
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.kubernetes_demo.bench import DATASET, Demo, on_a_real_cluster
from dolly_assets import notebook
from dolly_assets.pipeline.session import Session
from dolly_assets_tests.kubernetes.real import PROGRAM
from dolly_assets_tests.kubernetes.real_hand import RealHand

AWAY_SECONDS = 20.0  # of what is taken away for a while
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
class Disrupting:
    """Disrupts a training until it has ended.

    Attributes:
        at: What was done, and when.
    """

    hand: RealHand
    chance: random.Random
    every_seconds: float
    until: float

    def __post_init__(self) -> None:
        self.at: list[tuple[float, str]] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        """Disrupt again and again; every kind comes before one comes again."""
        kinds: list[str] = []
        while not self.is_over.wait(self.every_seconds) and time.time() < self.until:
            kinds = kinds or self.chance.sample(list(DISRUPTIONS), len(DISRUPTIONS))
            kind = kinds.pop()
            try:
                at = time.time()
                DISRUPTIONS[kind](self.hand)
            except ValueError:  # no pod runs: an earlier disruption is not over
                print(f"{kind}: skipped, nothing runs", flush=True)
                continue
            self.at.append((at, kind))
            print(f"{time.strftime('%H:%M:%S')} {kind}", flush=True)
            self.is_over.wait(AWAY_SECONDS)
            self.hand.release()


def main() -> int:
    """Run the soak, then the same without disruptions here, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="of disruptions")
    parser.add_argument("--every", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=int, default=2400)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--cluster", metavar="PROGRAM", default=os.environ.get(PROGRAM))
    arguments = parser.parse_args()
    if not arguments.cluster:
        parser.error(f"a real cluster is needed: set {PROGRAM} or --cluster")
    os.environ[PROGRAM] = arguments.cluster
    families = ("two", "two_pods")
    with on_a_real_cluster() as (hand, settings):
        bench = Demo(hand, settings, arguments.records, arguments.epochs, families)
        bench.prepare("two_pods")
        until = time.time() + 60 * arguments.minutes
        disrupting = Disrupting(hand, random.Random(arguments.seed), arguments.every, until)
        thread = threading.Thread(target=disrupting.run)
        began = time.time()
        thread.start()
        try:
            bench.train("two_pods", bench.in_pods)
        finally:
            disrupting.is_over.set()
            thread.join()
        report(bench, disrupting.at, began, time.time())
        booked = hand.gpus_booked()
        bench.prepare("two")
        bench.train("two", bench.here)
        equal = bench.weights("two") == bench.weights("two_pods")
        published = [bench.count("two_pods", epoch) for epoch in bench.epochs]
    is_right = equal and set(published) == {1} and not booked
    print(f"weights {'equal' if equal else 'DIFFER'} to the undisturbed training's here (SHA-256)")
    print(f"epochs published {published} times, {booked} GPUs booked")
    return int(not is_right)


def report(bench: Demo, disruptions: list[tuple[float, str]], began: float, ended: float) -> None:
    """Print effective training time and restarts."""
    steps = notebook.steps("two_pods", DATASET, store=bench.here.store)
    effective = float(steps["seconds"].to_numpy().sum())
    kinds = Counter(kind for _, kind in disruptions)
    print(f"{len(disruptions)} disruptions: {', '.join(f'{n} {k}' for k, n in kinds.items())}")
    print(
        f"{ended - began:.0f} s, {effective:.0f} s of them in steps that count "
        f"({100 * effective / (ended - began):.0f} %)"
    )
    back = restarts(bench.in_pods, [at for at, _ in disruptions])
    if len(back) > 1:
        p95 = statistics.quantiles(back, n=20, method="inclusive")[-1]
        print(f"{len(back)} restarts: p50 {statistics.median(back):.0f} s, p95 {p95:.0f} s")
    print("each: " + ", ".join(f"{seconds:.0f}" for seconds in back))


def restarts(session: Session, disruptions: list[float]) -> list[float]:
    """Return the seconds from each disruption that ended pods until all pods ran again."""
    runs = session.instance.get_run_ids(limit=1)
    entries = [
        (entry.timestamp, entry.message) for run in runs for entry in session.instance.all_logs(run)
    ]
    runs_on = [at for at, text in entries if " runs on " in text][1:]  # the first is the start
    found = []
    for at in runs_on:
        if before := [moment for moment in disruptions if moment < at]:
            found.append(at - before[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
