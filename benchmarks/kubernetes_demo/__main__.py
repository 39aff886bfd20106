"""Each training once as it is disturbed, and the table of their weights."""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import benchmarks.kubernetes_demo as package
from benchmarks.kubernetes_demo import ui
from benchmarks.kubernetes_demo.bench import (
    LIMIT_SECONDS,
    Demo,
    on_a_real_cluster,
    on_the_stand_in,
)
from dolly_assets_tests.kubernetes.real import PROGRAM
from dolly_assets_tests.kubernetes.real_hand import RealHand
from dolly_assets_tests.ui.server import serving
from dolly_assets_tests.waiting import wait_until


def main() -> int:
    """Run every stage and print the table."""
    parser = argparse.ArgumentParser(
        description=package.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cluster", metavar="PROGRAM", default=os.environ.get(PROGRAM))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.cluster:
            os.environ[PROGRAM] = arguments.cluster
            place = on_a_real_cluster()
        else:
            place = on_the_stand_in(Path(folder))
        with place as (hand, settings):
            rows = trained(Demo(hand, settings, arguments.records, arguments.epochs))
    print("| training | seconds | |\n| --- | ---: | --- |")
    for title, seconds, is_right in rows:
        print(f"| {title} | {seconds:.0f} | {'' if is_right else 'WRONG'} |")
    return int(not all(is_right for *_, is_right in rows))


def trained(bench: Demo) -> list[tuple[str, float, bool]]:
    """Train everything: title, seconds and whether it is right of each."""
    rows = here_and_in_pods(bench, "two", "two_pods")
    hand = bench.hand
    disruptions = {"a node of two lost": hand.lose}
    if isinstance(hand, RealHand):
        disruptions = {
            "a node of two drained": hand.drain,
            "a node of two crashed and booted": hand.reboot,
        }
    for title, disrupt in disruptions.items():
        rows.append(compared(bench, "two_pods", "two", disrupted(bench, disrupt), title))
    train = killed_and_executed_again(bench)
    rows.append(compared(bench, "two_pods", "two", train, "run killed in the UI"))
    return [*rows, *here_and_in_pods(bench, "one", "one_pod")]


def here_and_in_pods(bench: Demo, local: str, pods: str) -> list[tuple[str, float, bool]]:
    """Train on this machine and, undisturbed, in pods."""
    bench.prepare(local)
    bench.prepare(pods)
    seconds = bench.train(local, bench.here)
    in_pods = compared(bench, pods, local, lambda name: bench.train(name, bench.in_pods), pods)
    return [(f"{local}, here", seconds, True), in_pods]


def compared(
    bench: Demo, name: str, local: str, train: Callable[[str], float], title: str
) -> tuple[str, float, bool]:
    """Train in pods, and compare with what was trained here."""
    before = [bench.count(name, epoch) for epoch in bench.epochs]
    seconds = train(name)
    published = [
        bench.count(name, epoch) - count for epoch, count in zip(bench.epochs, before, strict=True)
    ]
    equal = bench.weights(name) == bench.weights(local)
    booked, digest = bench.hand.gpus_booked(), bench.weights(name)[-1][:16]
    print(
        f"{title}: weights {'equal' if equal else 'DIFFER'} (epoch {bench.epochs[-1]}: {digest}), "
        f"each epoch published {published} times, {booked} GPUs booked, {seconds:.0f} s",
        flush=True,
    )
    return title, seconds, equal and published == [1] * len(bench.epochs) and not booked


def disrupted(bench: Demo, how: Callable[[], object]) -> Callable[[str], float]:
    """Return what trains, while the second pod is disrupted in the second epoch."""

    def train(name: str) -> float:
        is_in_epoch_2 = bench.in_epoch_2(name)

        def disrupt() -> None:
            wait_until(is_in_epoch_2, LIMIT_SECONDS)
            how()

        disrupting = threading.Thread(target=disrupt)
        disrupting.start()
        seconds = bench.train(name, bench.in_pods)
        disrupting.join()
        bench.hand.release()
        assert bench.restarts(name), "the training had ended before: give it more records"
        return seconds

    return train


def killed_and_executed_again(bench: Demo) -> Callable[[str], float]:
    """Return what kills a run of the UI in the second epoch and re-executes it."""

    def train(name: str) -> float:
        began = time.monotonic()
        is_in_epoch_2 = bench.in_epoch_2(name)
        os.environ["DOLLY_KUBERNETES"] = str(bench.kubernetes_file)
        with serving(bench.home) as server:
            run = ui.launch(server, name, bench.epochs)
            wait_until(is_in_epoch_2, LIMIT_SECONDS)
            jobs = bench.hand.jobs()
            ui.kill(bench, run)
            wait_until(lambda: ui.status(server, run) == "FAILURE", LIMIT_SECONDS)
            again = ui.again(server, run)
            print(f"killed: {run}, re-executed: {again}", flush=True)
            ended = ("SUCCESS", "FAILURE", "CANCELED")
            wait_until(lambda: ui.status(server, again) in ended, LIMIT_SECONDS)
            assert ui.status(server, again) == "SUCCESS"
        assert jobs == 1, "another Job was made"
        return time.monotonic() - began

    return train


if __name__ == "__main__":
    sys.exit(main())
