"""A cluster in which something keeps failing: its API, watches and logs, and sometimes a pod."""

import random
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from dolly_assets_tests.kubernetes.cluster import Cluster

EVERY_SECONDS = 0.2


class Disturbing:
    """Disturbs a cluster until the block ends.

    Args:
        evictions: How many pods are evicted meanwhile, at most.

    Attributes:
        counts: What was done, and how often.
    """

    def __init__(self, cluster: Cluster, chance: random.Random, evictions: int) -> None:
        self._cluster, self._chance, self._evictions = cluster, chance, evictions
        self.counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disturbing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        cluster = self._cluster
        while not self._stop.wait(EVERY_SECONDS):
            cluster.drop_watches()
            cluster.cut_logs()
            self.counts.update(("watches dropped", "logs cut"))
            if self._chance.random() < 0.3:
                cluster.forget_history()
                self.counts["history forgotten"] += 1
            if not any(
                fault.times > 0 for fault in cluster.api.faults
            ):  # an API that never answers helps nobody
                self._fail()
            if self.counts["pods evicted"] < self._evictions and (running := cluster.running()):
                cluster.evict(self._chance.choice(running))
                self.counts["pods evicted"] += 1

    def _fail(self) -> None:
        faults = [
            (500, None, None),
            (429, None, None),
            (410, "watch", None),
            (409, "create", "jobs"),
        ]
        for status, verb, plural in faults:
            self._cluster.fail(status, verb=verb, plural=plural)
            self.counts[f"answers {status}"] += 1
