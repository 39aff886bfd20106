"""Many trainings beside each other, while the stand-in's API breaks and pods are evicted."""

import random
import time
from pathlib import Path

from dolly_assets_tests.kubernetes.cluster import Cluster
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.kubernetes.disturbing import Disturbing


def beside_each_other(cluster: Cluster, folder: Path, count: int, chance: random.Random) -> bool:
    """Train so often at once; print a line, and return whether all have ended as they should."""
    trainings = [Directed(folder / str(number), cluster) for number in range(count)]
    began = time.monotonic()
    for training in trainings:
        training.let()
        training.start()
    with Disturbing(cluster, chance, evictions=count // 2) as disturbing:
        errors = [training.end() for training in trainings]
    seconds = time.monotonic() - began
    twice = sum(
        training.times("trained", epoch) > 1 for training in trainings for epoch in training.epochs
    )
    whole = sum(
        training.is_whole() and len(training.published) == len(training.epochs)
        for training in trainings
    )
    booked = cluster.gpus_booked()
    done = ", ".join(f"{number} {what}" for what, number in disturbing.counts.most_common())
    print(
        f"\n{count} trainings at once: {whole} whole, {twice} epochs trained twice, "
        f"{booked} GPUs left booked, {seconds:.0f} s\nmeanwhile: {done}"
    )
    for error in filter(None, errors):
        print(f"WRONG: {error}")
    return whole == count and not any(errors) and not twice and not booked
