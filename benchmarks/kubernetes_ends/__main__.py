"""The table of ends: runs every scenario and prints a line of Markdown for each."""

import argparse
import os
import random
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import benchmarks.kubernetes_ends as package
from benchmarks.kubernetes_ends import anywhere, kueue, machines
from benchmarks.kubernetes_ends.crowd import beside_each_other
from benchmarks.kubernetes_ends.stage import AnyHand, End, Stage
from dolly_assets_tests.kubernetes.directed import deployed_cluster
from dolly_assets_tests.kubernetes.hands import StandInHand
from dolly_assets_tests.kubernetes.real import PROGRAM, RealCluster
from dolly_assets_tests.kubernetes.real_hand import RealHand

HEAD = """\
| what happens | outcome | noticed after | at work again after | 0 / 0 / 0 | the run logs |
| --- | --- | ---: | ---: | --- | --- |"""


def main() -> int:
    """Run the scenarios and print the table."""
    parser = argparse.ArgumentParser(
        description=package.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cluster", metavar="PROGRAM", default=os.environ.get(PROGRAM))
    parser.add_argument("--stand-in", action="store_true", help=f"though {PROGRAM} is set")
    parser.add_argument("--only", default="", metavar="REGEX", help="of what happens")
    parser.add_argument("--trainings", type=int, default=12, help="beside each other")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(HEAD)
    if arguments.cluster and not arguments.stand_in:
        os.environ[PROGRAM] = arguments.cluster
        results = on_a_real_cluster(arguments.only)
    else:
        results = on_the_stand_in(arguments.only, arguments.trainings, arguments.seed)
    wrong = results.count(False)
    print(
        f"\n{len(results)} ends, {f'{wrong} of them WRONG' if wrong else 'all as they should be'}"
    )
    return int(wrong > 0)


def on_the_stand_in(only: str, trainings: int, seed: int) -> list[bool]:
    """Run what the stand-in can do, and at last many trainings at once."""
    results = [_measured(end, _stand_in()) for end in _chosen(anywhere.ENDS, only)]
    with tempfile.TemporaryDirectory() as folder, deployed_cluster(Path(folder)) as cluster:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        crowd = Path(folder) / "many"
        return [*results, beside_each_other(cluster, crowd, trainings, random.Random(seed))]


def on_a_real_cluster(only: str) -> list[bool]:
    """Run everything but the crowd; Kueue is installed before its ends."""
    results = [_measured(end, _real()) for end in _chosen(anywhere.ENDS, only)]
    results += [_measured(end, _real()) for end in _chosen(machines.ENDS, only)]
    if queues := _chosen(kueue.ENDS, only):
        RealCluster().command("kueue")
    return results + [_measured(end, _real()) for end in queues]


def _chosen(ends: list[End[AnyHand]], only: str) -> list[End[AnyHand]]:
    return [end for end in ends if re.search(only, end.name)]


@contextmanager
def _stand_in() -> Iterator[StandInHand]:
    with (
        tempfile.TemporaryDirectory() as name,
        deployed_cluster(Path(name) / "cluster") as cluster,
    ):
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        yield StandInHand(cluster, Path(name))


@contextmanager
def _real() -> Iterator[RealHand]:
    cluster = RealCluster()
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    cluster.start()
    hand = RealHand(cluster)
    try:
        yield hand
    finally:
        hand.close()
        cluster.close()


def _measured(end: End[AnyHand], hands: AbstractContextManager[AnyHand]) -> bool:
    """Bring one end about, print its line, and return whether all is as it should be."""
    try:
        with hands as hand:
            return _line(end, Stage(hand))
    except Exception:  # noqa: BLE001 the others are measured all the same
        traceback.print_exc()
        print(f"| {end.name} | WRONG: the cluster is not as it was before | | | | |", flush=True)
        return False


def _line(end: End[AnyHand], stage: Stage[AnyHand]) -> bool:
    try:
        outcome = end.bring_about(stage)
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        outcome = f"BROKEN: {type(error).__name__}"
    counts = stage.hand.gpus_booked(), stage.epochs_lost(), stage.epochs_trained_twice()
    said = stage.sentence(end.says) if end.says else None
    is_right = bool(re.search(end.outcome, outcome)) and not any(counts)
    is_right = is_right and (said is not None or end.says is None)
    if not is_right:
        print("\n".join(text for _, text in stage.lines), file=sys.stderr)
    noticed = f"{said[0] - stage.happened:.1f} s" if said else "–"
    back = f"{stage.back - (stage.removed or stage.happened):.1f} s" if stage.back else "–"
    text = _readable(said[1]) if said else "–"
    wrong = "" if is_right else "WRONG "
    numbers = " / ".join(map(str, counts))
    print(
        f"| {end.name} | {wrong}{outcome} | {noticed} | {back} | {numbers} | {text} |", flush=True
    )
    return is_right


def _readable(text: str) -> str:
    """Return a sentence without random names, for a cell of a table."""
    text = re.sub(
        r"dolly-tiny-[0-9a-f]{12}-1(-(\d)-[0-9a-z]{5})?",
        lambda it: f"pod-{it[2]}" if it[1] else "JOB",
        text,
    )
    text = re.sub(r"dolly-[0-9a-f]{6}", "NAMESPACE", text)
    return " ".join(text.split()).replace("|", r"\|")


if __name__ == "__main__":
    sys.exit(main())
